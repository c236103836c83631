"""The formats of auxcred once more, written from docs/formats.md alone, on Python's standard library.

    second-implementation.py FOLDER           computes every vector of FOLDER again and says which differ
    second-implementation.py FOLDER --write   writes what it computed into the vectors

It shares nothing with the code under test but the two word lists, whose SHA-256 it checks.
"""

import base64
import ctypes
import datetime
import functools
import hashlib
import hmac
import json
import pathlib
import re
import struct
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


# Framing and keys


def u32(number):
    return struct.pack('>I', number)


def lp(field):
    field = field.encode() if isinstance(field, str) else field
    return struct.pack('>H', len(field)) + field


def sha256(content):
    return hashlib.sha256(content).digest()


def mac(key, content):
    return hmac.new(key, content, 'sha256').digest()


def hkdf(key, salt, info, length):
    extracted, block, output = mac(salt, key), b'', b''
    for counter in range(1, -(-length // 32) + 1):
        block = mac(extracted, block + info + bytes([counter]))
        output += block
    return output[:length]


def below(key, label, info=b'', length=32):
    if len(key) != 32:
        raise ValueError('a seed has 32 bytes')
    return hkdf(key, b'auxcred/v1/' + label.encode(), info, length)


def node(parent, kind, name, epoch):
    return below(parent, 'node', lp(kind) + lp(name) + u32(epoch))


def leaf(scope, realm):
    kind, name, period, generation, params = realm
    return below(scope, 'leaf', lp(kind) + lp(name) + lp(period) + u32(generation) + lp(params))


def key_id(scope):
    return below(scope, 'id', length=16)


# ChaCha20 and Poly1305 (RFC 8439), XChaCha20 (draft-irtf-cfrg-xchacha)


def rounds(state):
    x = list(state)
    for _ in range(10):
        for a, b, c, d in (
            (0, 4, 8, 12),
            (1, 5, 9, 13),
            (2, 6, 10, 14),
            (3, 7, 11, 15),
            (0, 5, 10, 15),
            (1, 6, 11, 12),
            (2, 7, 8, 13),
            (3, 4, 9, 14),
        ):
            for to, other, by, bits in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
                x[to] = (x[to] + x[other]) & 0xFFFFFFFF
                turned = x[by] ^ x[to]
                x[by] = (turned << bits | turned >> 32 - bits) & 0xFFFFFFFF
    return x


def state_of(key, last16):
    return struct.unpack('<16I', b'expand 32-byte k' + key + last16)


def keystream(key, nonce, counter=0):
    while True:
        state = state_of(key, struct.pack('<I', counter) + nonce)
        yield from struct.pack('<16I', *((a + b) & 0xFFFFFFFF for a, b in zip(state, rounds(state))))
        counter += 1


def poly1305(key, message):
    r = int.from_bytes(key[:16], 'little') & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    for at in range(0, len(message), 16):
        total = (total + int.from_bytes(message[at : at + 16] + b'\1', 'little')) * r % (2**130 - 5)
    return ((total + int.from_bytes(key[16:], 'little')) % 2**128).to_bytes(16, 'little')


def tag_of(key, nonce, ciphertext, data):
    one_time = keystream(key, nonce)
    padded = b''.join(part + bytes(-len(part) % 16) for part in (data, ciphertext))
    return poly1305(bytes(next(one_time) for _ in range(32)), padded + struct.pack('<QQ', len(data), len(ciphertext)))


def xor(key, nonce, content):
    return bytes(a ^ b for a, b in zip(content, keystream(key, nonce, 1)))


def encrypt(key, nonce, plaintext, data=b''):
    ciphertext = xor(key, nonce, plaintext)
    return ciphertext + tag_of(key, nonce, ciphertext, data)


def decrypt(key, nonce, sealed, data=b''):
    if len(sealed) < 16 or tag_of(key, nonce, sealed[:-16], data) != sealed[-16:]:
        raise ValueError('the tag does not fit')
    return xor(key, nonce, sealed[:-16])


def extended(key, nonce):
    """XChaCha20's key and nonce."""
    x = rounds(state_of(key, nonce[:16]))
    return struct.pack('<8I', *x[:4], *x[12:]), bytes(4) + nonce[16:]


# Curves: RFC 7748 (X25519), RFC 8032 (Ed25519), SP 800-186 (P-256)

P = 2**255 - 19


def x25519(key):
    """The public key: the ladder on the base point 9."""
    scalar = int.from_bytes(key, 'little') & ~(7 | 1 << 255) | 1 << 254
    x1, x2, z2, x3, z3 = 9, 1, 0, 9, 1
    for bit in range(254, -1, -1):
        if scalar >> bit & 1:
            x2, z2, x3, z3 = x3, z3, x2, z2
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a, b * b, d * a, c * b
        x2, z2, x3, z3 = (
            aa * bb % P,
            (aa - bb) * (aa + 121665 * (aa - bb)) % P,
            (da + cb) ** 2 % P,
            x1 * (da - cb) ** 2 % P,
        )
        if scalar >> bit & 1:
            x2, z2, x3, z3 = x3, z3, x2, z2
    return (x2 * pow(z2, -1, P) % P).to_bytes(32, 'little')


def multiplied(scalar, point, add):
    result = None
    for bit in bin(scalar)[2:]:
        result = add(result, result) if result else None
        if bit == '1':
            result = add(result, point) if result else point
    return result


def ed25519_point(scalar):
    d = -121665 * pow(121666, -1, P) % P
    base_y = 4 * pow(5, -1, P) % P
    square = (base_y * base_y - 1) * pow(d * base_y * base_y + 1, -1, P) % P
    base_x = pow(square, (P + 3) // 8, P)
    if base_x * base_x % P != square:
        base_x = base_x * pow(2, (P - 1) // 4, P) % P
    base = (base_x if base_x % 2 == 0 else P - base_x, base_y)

    def add(one, other):
        (x1, y1), (x2, y2) = one, other
        both = d * x1 * x2 * y1 * y2
        return (x1 * y2 + x2 * y1) * pow(1 + both, -1, P) % P, (y1 * y2 + x1 * x2) * pow(1 - both, -1, P) % P

    x, y = multiplied(scalar, base, add)
    return (y | (x & 1) << 255).to_bytes(32, 'little')


def ed25519_scalar(seed):
    return int.from_bytes(hashlib.sha512(seed).digest()[:32], 'little') & ~(7 | 1 << 255) | 1 << 254


def ed25519(seed):
    return ed25519_point(ed25519_scalar(seed))


def ed25519_signature(seed, message):
    order = 2**252 + 27742317777372353535851937790883648493

    def number_of(*parts):
        return int.from_bytes(hashlib.sha512(b''.join(parts)).digest(), 'little') % order

    nonce = number_of(hashlib.sha512(seed).digest()[32:], message)
    point = ed25519_point(nonce)
    answer = (nonce + number_of(point, ed25519(seed), message) * ed25519_scalar(seed)) % order
    return point + answer.to_bytes(32, 'little')


P256 = 2**256 - 2**224 + 2**192 + 2**96 - 1
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
P256_BASE = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)


def p256(key):
    def add(one, other):
        (x1, y1), (x2, y2) = one, other
        slope = (
            3 * (x1 * x1 - 1) * pow(2 * y1, -1, P256) if one == other else (y2 - y1) * pow(x2 - x1, -1, P256)
        ) % P256
        x = (slope * slope - x1 - x2) % P256
        return x, (slope * (x1 - x) - y1) % P256

    x, y = multiplied(int.from_bytes(key, 'big'), P256_BASE, add)
    return b'\4' + x.to_bytes(32, 'big') + y.to_bytes(32, 'big')


# Canonical JSON (RFC 8785)


def number(value):
    """ECMAScript's Number::toString."""
    value = float(value)
    if value == 0:
        return '0'
    sign, (mantissa, _, exponent) = '-' if value < 0 else '', repr(abs(value)).partition('e')
    whole, _, fraction = mantissa.partition('.')
    digits = (whole + fraction).lstrip('0')
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip('0')
    if len(digits) <= point <= 21:
        return sign + digits + '0' * (point - len(digits))
    if 0 < point <= 21:
        return f'{sign}{digits[:point]}.{digits[point:]}'
    if -6 < point <= 0:
        return f'{sign}0.{"0" * -point}{digits}'
    return f'{sign}{digits[0]}{"." * (len(digits) > 1)}{digits[1:]}e{point - 1:+d}'


def quoted(text):
    short = {'"': '\\"', '\\': '\\\\', '\b': '\\b', '\t': '\\t', '\n': '\\n', '\f': '\\f', '\r': '\\r'}
    text.encode()
    return '"' + ''.join(short.get(c) or (f'\\u{ord(c):04x}' if c < ' ' else c) for c in text) + '"'


def scalar(value):
    if value is None or isinstance(value, bool):
        return {None: 'null', True: 'true', False: 'false'}[value]
    if isinstance(value, str):
        return quoted(value)
    if value != value or value in (float('inf'), float('-inf')):
        raise ValueError('JSON has no such number')
    return number(value)


def canonical(value):
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: key.encode('utf-16-be', 'surrogatepass'))
        return '{' + ','.join(f'{quoted(key)}:{canonical(value[key])}' for key in keys) + '}'
    if isinstance(value, list):
        return '[' + ','.join(map(canonical, value)) + ']'
    return scalar(value)


# Words


@functools.cache
def eff_words():
    text = re.search(r'const words = `(.*?)`', (ROOT / 'src/derive/words.ts').read_text(), re.S).group(1).split()
    dice = ''.join(
        f'{"".join(str(i // 6 ** at % 6 + 1) for at in (4, 3, 2, 1, 0))}\t{word}\n' for i, word in enumerate(text)
    )
    return text, hashlib.sha256(dice.encode()).hexdigest()


@functools.cache
def bip39_words():
    module = (ROOT / 'node_modules/@scure/bip39/wordlists/english.js').read_text()
    text = re.search(r'`(.*?)`', module, re.S).group(1).split()
    return text, hashlib.sha256(''.join(f'{word}\n' for word in text).encode()).hexdigest()


def on_paper(seed):
    bits = int.from_bytes(seed + sha256(seed)[:1], 'big')
    return ' '.join(bip39_words()[0][bits >> 11 * at & 2047] for at in range(23, -1, -1))


# Secrets


def one_key_line(key, value):
    if isinstance(value, list):
        return f'{key}={",".join(sorted(value))}\n'
    return f'{key}={str(value).lower() if isinstance(value, bool) else value}\n'


def params_of(options):
    for key, value in options.items():
        if isinstance(value, str) and not re.fullmatch('[ -~]*', value):
            raise ValueError(f'{key} is not printable ASCII')
    if options['kind'] == 'password':
        alphabet, required = options['alphabet'], options['require']
        if not alphabet or sorted(set(alphabet)) != list(alphabet) or len(set(required)) != len(required):
            raise ValueError('an alphabet has each character once, in order')
    return ''.join(one_key_line(key, options[key]) for key in sorted(options) if key not in ('kind', 'comment'))


def realm_of(secret):
    options = secret['options']
    return options['kind'], secret['name'], secret['period'], secret['generation'], params_of(options)


class Stream:
    def __init__(self, key):
        self.bytes = keystream(key, bytes(12))
        self.thrown_away = 0

    def take(self, length):
        return bytes(next(self.bytes) for _ in range(length))

    def below(self, bound):
        width, values = (1, 256) if bound <= 256 else (2, 65536)
        while True:
            value = int.from_bytes(self.take(width), 'big')
            if value < values - values % bound:
                return value % bound
            self.thrown_away += 1


def class_of(character):
    return (
        'lower'
        if 'a' <= character <= 'z'
        else 'upper' if 'A' <= character <= 'Z' else 'digit' if '0' <= character <= '9' else 'symbol'
    )


def password(stream, options):
    while True:
        text = ''.join(options['alphabet'][stream.below(len(options['alphabet']))] for _ in range(options['length']))
        if set(options['require']) <= set(map(class_of, text)):
            return text.encode()
        stream.thrown_away += len(text)


def passphrase(stream, options):
    words = [eff_words()[0][stream.below(7776)] for _ in range(options['words'])]
    return (
        options['separator']
        .join(word[0].upper() + word[1:] if options['capitalize'] else word for word in words)
        .encode()
    )


def uuid(stream):
    b = bytearray(stream.take(16))
    b[6], b[8] = b[6] & 0x0F | 0x40, b[8] & 0x3F | 0x80
    digits = b.hex()
    return '-'.join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])).encode()


KEYS = ('ssh-ed25519', 'wireguard', 'age', 'ed25519', 'x25519', 'ec-p256')


def draw_key(stream, kind):
    key = bytearray(stream.take(32))
    if kind in ('wireguard', 'x25519'):
        key[0], key[31] = key[0] & 0xF8, key[31] & 0x7F | 0x40
    while kind == 'ec-p256' and not 0 < int.from_bytes(key, 'big') < P256_ORDER:
        key = stream.take(32)
    return bytes(key)


def pem(label, content, width):
    text = base64.b64encode(content).decode()
    lines = [text[at : at + width] for at in range(0, len(text), width)]
    return '\n'.join([f'-----BEGIN {label}-----', *lines, f'-----END {label}-----', '']).encode()


def der(tag, *parts):
    content = b''.join(parts)
    length = bytes([len(content)]) if len(content) < 128 else b'\x81' + bytes([len(content)])
    return bytes([tag]) + length + content


OIDS = {
    'x25519': bytes.fromhex('06032b656e'),
    'ed25519': bytes.fromhex('06032b6570'),
    'ec-p256': bytes.fromhex('06072a8648ce3d0201') + bytes.fromhex('06082a8648ce3d030107'),
}


def pkcs8(kind, key):
    inner = der(4, key)
    if kind == 'ec-p256':
        inner = der(0x30, b'\2\1\1', der(4, key), der(0xA1, der(3, b'\0' + p256(key))))
    return der(0x30, b'\2\1\0', der(0x30, OIDS[kind]), der(4, inner))


def spki(kind, public):
    return der(0x30, der(0x30, OIDS[kind]), der(3, b'\0' + public))


def bech32(prefix, content):
    digits = 'qpzry9x8gf2tvdw0s3jn54khce6mua7l'
    bits = int.from_bytes(content, 'big') << -8 * len(content) % 5
    count = -(-8 * len(content) // 5)
    values = [bits >> 5 * at & 31 for at in range(count - 1, -1, -1)]

    def checksum(all_values):
        check = 1
        for value in all_values:
            top, check = check >> 25, (check & 0x1FFFFFF) << 5 ^ value
            for i, part in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
                check ^= part if top >> i & 1 else 0
        return check

    head = [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]
    check = checksum(head + values + [0] * 6) ^ 1
    return prefix + '1' + ''.join(digits[v] for v in values + [check >> 5 * at & 31 for at in range(5, -1, -1)])


def ssh(content):
    content = content.encode() if isinstance(content, str) else content
    return u32(len(content)) + content


def openssh(seed, check, comment):
    public = ed25519(seed)
    blob = ssh('ssh-ed25519') + ssh(public)
    inner = check + check + blob + ssh(seed + public) + ssh(comment)
    inner += bytes(range(1, 1 + -len(inner) % 8))
    return b'openssh-key-v1\0' + ssh('none') + ssh('none') + ssh('') + u32(1) + ssh(blob) + ssh(inner)


def private_half(scope, secret, key):
    kind = secret['options']['kind']
    if kind == 'ssh-ed25519':
        check = Stream(leaf(scope, (kind + '-check', *realm_of(secret)[1:]))).take(4)
        return pem('OPENSSH PRIVATE KEY', openssh(key, check, secret['options']['comment']), 70)
    if kind == 'wireguard':
        return base64.b64encode(key)
    if kind == 'age':
        return bech32('age-secret-key-', key).upper().encode()
    return pem('PRIVATE KEY', pkcs8(kind, key), 64)


def public_half(secret, key):
    kind = secret['options']['kind']
    if kind == 'ssh-ed25519':
        comment = secret['options']['comment']
        return (
            b'ssh-ed25519 '
            + base64.b64encode(ssh('ssh-ed25519') + ssh(ed25519(key)))
            + (f' {comment}'.encode() if comment else b'')
        )
    if kind == 'wireguard':
        return base64.b64encode(x25519(key))
    if kind == 'age':
        return bech32('age', x25519(key)).encode()
    return pem('PUBLIC KEY', spki(kind, {'ed25519': ed25519, 'x25519': x25519, 'ec-p256': p256}[kind](key)), 64)


def secret_of(scope, secret):
    """The bytes, the public half or None, and how many draws were thrown away."""
    options, stream = secret['options'], Stream(leaf(scope, realm_of(secret)))
    kind = options['kind']
    if kind in KEYS:
        key = draw_key(stream, kind)
        return private_half(scope, secret, key), public_half(secret, key), 0
    draws = {
        'password': lambda: password(stream, options),
        'passphrase': lambda: passphrase(stream, options),
        'hex': lambda: stream.take(options['bytes']).hex().encode(),
        'base64': lambda: base64.b64encode(stream.take(options['bytes'])),
        'bytes': lambda: stream.take(options['bytes']),
        'uuid': lambda: uuid(stream),
        'wireguard-psk': lambda: base64.b64encode(stream.take(32)),
    }
    return draws[kind](), None, stream.thrown_away


# Periods

DAY = datetime.timedelta(days=1)


def start_of(rotation, date):
    return {
        'yearly': lambda: date.replace(month=1, day=1),
        'quarterly': lambda: date.replace(month=(date.month - 1) // 3 * 3 + 1, day=1),
        'monthly': lambda: date.replace(day=1),
        'weekly': lambda: date - DAY * (date.isoweekday() - 1),
        'daily': lambda: date,
    }[rotation]()


def period_at(rotation, date):
    year = f'{date.year:04}'
    iso = date.isocalendar() if rotation == 'weekly' else None
    return {
        'yearly': year,
        'quarterly': f'{year}-Q{(date.month + 2) // 3}',
        'monthly': f'{year}-{date.month:02}',
        'daily': date.isoformat(),
        'weekly': iso and f'{iso[0]:04}-W{iso[1]:02}',
    }[rotation]


def period_before(rotation, date):
    """None for the first one."""
    start = start_of(rotation, date)
    return None if start == datetime.date.min else period_at(rotation, start - DAY)


def end_of(rotation, date):
    longest = {'yearly': 366, 'quarterly': 92, 'monthly': 31, 'weekly': 7, 'daily': 1}[rotation]
    try:
        return start_of(rotation, start_of(rotation, date) + DAY * longest).isoformat()
    except OverflowError:
        return '+010000-01-03' if rotation == 'weekly' else '+010000-01-01'


def first_day(name):
    year, week, quarter, month, day = re.fullmatch(r'(\d{4})(?:-W(\d\d)|-Q(\d)|-(\d\d)(?:-(\d\d))?)?', name).groups()
    if week:
        return datetime.date.fromisocalendar(int(year), int(week), 1)
    return datetime.date(int(year), int(quarter) * 3 - 2 if quarter else int(month or 1), int(day or 1))


def rotation_of(name):
    return (
        'yearly'
        if len(name) == 4
        else 'weekly' if 'W' in name else 'quarterly' if 'Q' in name else 'monthly' if len(name) == 7 else 'daily'
    )


# Hashes


def realm_digest(source):
    if source['form'] == 'fixed':
        realm = 'fixed', source['path'], '', 1, f'fingerprint={source["fingerprint"]}\n'
    else:
        realm = realm_of(source)
    kind, name, period, generation, params = realm
    return sha256(
        lp(source['scope']) + u32(source['epoch']) + lp(kind) + lp(name) + lp(period) + u32(generation) + lp(params)
    )


def hash_params(hashed):
    return f'method={hashed["method"]}\nof={realm_digest(hashed["of"]).hex()}\nrounds={hashed["rounds"]}\n'


def hash_salt(scope, hashed):
    return Stream(leaf(scope, ('crypt-salt', hashed['name'], '', 1, hash_params(hashed)))).take(16)


def hash_setting(method, cost, salt):
    digits = './0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
    if method == 'bcrypt':
        ours = './ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789'
        usual = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'
        return f'$2b${cost:02}$' + base64.b64encode(salt).decode().rstrip('=').translate(str.maketrans(usual, ours))

    def little(content):
        groups = (content[at : at + 3] for at in range(0, len(content), 3))
        return ''.join(
            digits[int.from_bytes(group, 'little') >> bits & 63]
            for group in groups
            for bits in range(0, 8 * len(group), 6)
        )

    if method == 'sha512-crypt':
        return ('$6$' if cost == 5000 else f'$6$rounds={cost}$') + little(salt[:12])
    log_n, block = (cost + 9, '5') if cost <= 2 else (cost + 7, 'T')
    return f'$y$j{digits[log_n - 1]}{block}${little(salt)}'


def crypt3(phrase, setting):
    library = ctypes.CDLL('libcrypt.so.1')
    library.crypt.restype = ctypes.c_char_p
    return library.crypt(phrase, setting.encode())


def seal_hash(scope, hashed, text):
    key = leaf(scope, ('crypt-hash', hashed['name'], '', 1, hash_params(hashed)))
    return base64.b64encode(encrypt(key, bytes(12), text)).decode()


# Fixed files

BLOCK = 64
MOST = 131072


def fixed_header(scope, sequence, nonce):
    return b'auxfixed\1' + key_id(scope) + struct.pack('>Q', sequence) + nonce


def fixed_sealed(scope, path, header, plaintext):
    key, nonce = extended(below(scope, 'fixed', lp(path)), header[33:])
    return header + encrypt(key, nonce, plaintext, header + lp(path))


def fixed_file(scope, path, sequence, nonce, value):
    padding = b'\x80' + bytes(-(len(value) + 1) % BLOCK)
    return fixed_sealed(scope, path, fixed_header(scope, sequence, nonce), value + padding)


def fixed_value(scope, path, content):
    """The value, or a text that says why there is none."""
    if not b'auxfixed'.startswith(content[:8]):
        return 'is not a file of a fixed folder'
    if content[8:9] not in (b'', b'\1'):
        return 'was written by another version'
    if len(content) < 57 + BLOCK + 16:
        return 'is empty or cut off'
    if len(content) > 57 + MOST + BLOCK + 16:
        return 'is longer than the largest secret'
    if (len(content) - 57 - 16) % BLOCK:
        return 'is cut off, or has too many bytes'
    header = content[:57]
    if struct.unpack('>Q', header[25:33])[0] >= 2**53:
        return 'has a sequence number out of range'
    if header[9:25] != key_id(scope):
        return 'another key id'
    key, nonce = extended(below(scope, 'fixed', lp(path)), header[33:])
    try:
        plaintext = decrypt(key, nonce, content[57:], header + lp(path))
    except ValueError:
        return 'the tag does not fit'
    value = plaintext.rstrip(b'\0')[:-1]
    if plaintext.rstrip(b'\0')[-1:] != b'\x80' or len(plaintext) - len(value) > BLOCK:
        return 'has other padding than a fixed file'
    return 'holds an empty value' if not value else f'holds more than {MOST} bytes' if len(value) > MOST else value


def fixed_fingerprint(scope, path, value):
    return mac(below(scope, 'fingerprint'), lp(path) + u32(len(value)) + value).hex()


# Templates

SPACE = '[\t\n\v\f\r \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff]*'
PLACE = re.compile('\\{\\{' + SPACE + '(?:"([^"]*)"|([^{}]*?))' + SPACE + '\\}\\}')


def escaped(escape, content):
    if escape == 'base64':
        return base64.b64encode(content)
    if escape == 'url':
        return b''.join(bytes([b]) if re.match(rb'[A-Za-z0-9._~-]', bytes([b])) else b'%%%02X' % b for b in content)
    if escape == 'json':
        return b''.join(
            b'\\' + bytes([b]) if b in b'"\\' else b'\\u%04X' % b if b < 0x20 else bytes([b]) for b in content
        )
    return b''.join(b'\\' + bytes([b]) if b in b'"\\$`' else bytes([b]) for b in content)


def text_pieces(text):
    pieces, at = [], 0
    while (found := text.find('{{', at)) != -1:
        match = PLACE.match(text, found)
        if not match:
            raise ValueError(f'no secret in braces: {text[found:]}')
        pieces.append(text[at:found])
        if match.group(2) is None:
            pieces.append(match.group(1))
        else:
            reference, *escapes = (re.sub(f'^{SPACE}|{SPACE}$', '', part) for part in match.group(2).split('|'))
            inner = {'reference': reference, 'escapes': escapes}
            pieces += ['"', inner, '"'] if escapes and escapes[-1] in ('json', 'env') else [inner]
        at = match.end()
    return [*pieces, text[at:]]


def whole(text, escape):
    def one(piece):
        if isinstance(piece, str):
            return escaped(escape, piece.encode()).decode()
        return {**piece, 'escapes': [*piece['escapes'], escape]}

    return ['"', *map(one, text_pieces(text)), '"']


def json_pieces(value, indent='\n'):
    if isinstance(value, str):
        return whole(value, 'json')
    if isinstance(value, (dict, list)):
        table = isinstance(value, dict)
        keys = [key for key in value if re.fullmatch('0|[1-9][0-9]*', key) and int(key) < 2**32 - 1] if table else []
        items = (
            [
                ([f'{quoted(key)}: '], value[key])
                for key in [*sorted(keys, key=int), *(k for k in value if k not in keys)]
            ]
            if table
            else [([], item) for item in value]
        )
        inner = [
            part
            for i, (head, item) in enumerate(items)
            for part in [(',' if i else '') + indent + '  ', *head, *json_pieces(item, indent + '  ')]
        ]
        start, end = '{}' if table else '[]'
        return [start, *inner, indent + end] if items else [start + end]
    return [scalar(value)]


def declared_pieces(template):
    if 'content' in template:
        pieces = text_pieces(template['content'])
    elif 'env' in template:
        pieces = [
            part
            for name, value in template['env'].items()
            for part in [f'{name}=', *whole(value if isinstance(value, str) else scalar(value), 'env'), '\n']
        ]
    else:
        pieces = [*json_pieces(template['json']), '\n']
    joined = []
    for piece in pieces:
        if isinstance(piece, str) and joined and isinstance(joined[-1], str):
            joined[-1] += piece
        elif piece != '':
            joined.append(piece)
    return joined


# Manifest, recipes, snapshot

ALNUM = ''.join(sorted('0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'))
ALPHABETS = {
    'alnum': ALNUM,
    'digits': ALNUM[:10],
    'upper': ALNUM[10:36],
    'lower': ALNUM[36:],
    'hex': '0123456789abcdef',
    'printable': ''.join(map(chr, range(0x21, 0x7F))),
    'readable': ''.join(c for c in ALNUM if c not in '0O1Il'),
    'url': ''.join(sorted(ALNUM + '-_')),
}
USUAL_ROUNDS = {'yescrypt': 5, 'sha512-crypt': 5000, 'bcrypt': 10}


def options_of(declared, name, owner):
    kind = declared.get('kind', 'password')
    if kind == 'password':
        alphabet = declared.get('alphabet', 'alnum')
        return {
            'kind': kind,
            'length': declared.get('length', 32),
            'alphabet': ''.join(sorted(set(ALPHABETS.get(alphabet, alphabet)))),
            'require': sorted(set(declared.get('require', []))),
        }
    if kind == 'passphrase':
        return {
            'kind': kind,
            'words': declared.get('words', 6),
            'separator': declared.get('separator', '-'),
            'capitalize': declared.get('capitalize', False),
        }
    if kind in ('hex', 'base64', 'bytes'):
        return {'kind': kind, 'bytes': declared.get('bytes', 32)}
    return (
        {'kind': kind, 'comment': declared.get('comment') or f'{name}@{owner}'}
        if kind == 'ssh-ed25519'
        else {'kind': kind}
    )


class Machine:
    """One machine at one time: `given` is a vector of recipes.json."""

    def __init__(self, given):
        self.secrets, self.host = given['secrets'], f'host/{given["host"]}'
        self.date = datetime.date.fromisoformat(given['at'][:10])
        self.epochs = {self.host: given['epoch'], **{f'group/{name}': epoch for name, epoch in given['groups'].items()}}
        self.seeds = {
            scope: node(bytes.fromhex(given['fleet']), *scope.split('/'), epoch) for scope, epoch in self.epochs.items()
        }
        self.fixed = {one['name']: one for one in given['fixed']}

    def recipe(self, reference):
        name, suffix = (reference, None) if reference in self.secrets else reference.rsplit('.', 1)
        recipe = self.whole_recipe(name, self.secrets[name])
        if suffix == 'public':
            return {'form': 'public', 'of': recipe}
        if suffix == 'previous':
            rotation = self.secrets[name].get('rotate')
            if rotation:
                return {**recipe, 'period': period_before(rotation, first_day(recipe['period']))}
            return {**recipe, 'generation': recipe['generation'] - 1}
        return recipe

    def whole_recipe(self, name, declared):
        kind = declared.get('kind', 'password')
        scope = f'group/{declared["share"]}' if 'share' in declared else self.host
        if kind == 'template':
            pieces = [
                (
                    piece
                    if isinstance(piece, str)
                    else {'of': self.recipe(piece['reference']), 'escapes': piece['escapes']}
                )
                for piece in declared_pieces(declared)
            ]
            return {'form': 'template', 'name': name, 'pieces': pieces}
        if kind == 'crypt':
            method = declared.get('method', 'yescrypt')
            hashed = {
                'form': 'crypt',
                'name': name,
                'method': method,
                'rounds': declared.get('rounds', USUAL_ROUNDS[method]),
                'of': self.recipe(declared['of']),
            }
            seed = self.seeds[hashed['of']['scope']]
            setting = hash_setting(method, hashed['rounds'], hash_salt(seed, hashed))
            return {**hashed, 'sealed': seal_hash(seed, hashed, crypt3(self.value(hashed['of']), setting))}
        base = {
            'form': 'fixed' if kind == 'fixed' else 'derived',
            'name': name,
            'scope': scope,
            'epoch': self.epochs[scope],
        }
        if kind == 'fixed':
            path = declared.get('path', name)
            one, seed = self.fixed[f'{scope}/{path}'], self.seeds[scope]
            value = one['value'].encode()
            content = fixed_file(seed, path, one['sequence'], bytes.fromhex(one['nonce']), value)
            return {
                **base,
                'path': path,
                'sequence': one['sequence'],
                'file': sha256(content).hex(),
                'fingerprint': fixed_fingerprint(seed, path, value),
            }
        rotation = declared.get('rotate')
        period = declared.get('period') or (period_at(rotation, self.date) if rotation else '')
        return {
            **base,
            'options': options_of(declared, name, scope.split('/')[1]),
            'period': period,
            'generation': declared.get('generation', 1),
        }

    def value(self, recipe):
        form = recipe['form']
        if form == 'template':
            return b''.join(
                piece.encode() if isinstance(piece, str) else self.slot(piece) for piece in recipe['pieces']
            )
        if form == 'fixed':
            return self.fixed[f'{recipe["scope"]}/{recipe["path"]}']['value'].encode()
        if form == 'crypt':
            key = leaf(self.seeds[recipe['of']['scope']], ('crypt-hash', recipe['name'], '', 1, hash_params(recipe)))
            return decrypt(key, bytes(12), base64.b64decode(recipe['sealed']))
        source = recipe['of'] if form == 'public' else recipe
        private, public, _ = secret_of(self.seeds[source['scope']], source)
        return public if form == 'public' else private

    def slot(self, piece):
        content = self.value(piece['of'])
        for escape in piece['escapes']:
            content = escaped(escape, content)
        return content

    def releases(self):
        for name, declared in self.secrets.items():
            previous = declared.get('previous', 'share' in declared and 'rotate' in declared)
            parts = [
                ('', ''),
                *([('.pub', '.public')] if declared.get('kind') in KEYS else []),
                *([('.previous', '.previous')] if previous else []),
            ]
            for unit in declared.get('units', []):
                for ending, part in parts:
                    yield {
                        'unit': unit,
                        'credential': declared.get('credential', name.replace('/', '_')) + ending,
                        'delivery': declared.get('delivery', 'socket'),
                        'recipe': self.recipe(name + part),
                    }

    def authenticated(self, content):
        body = canonical({'version': 4, 'host': self.host, **content})
        return mac(below(self.seeds[self.host], 'state'), body.encode()).hex() + '\n' + body


def release_fingerprint(scope, unit, credential, value):
    return mac(below(scope, 'release'), lp(unit) + lp(credential) + u32(len(value)) + value).hex()


# seeds.age


def tpm_stanza(v):
    """The body; `sealed` are its fields after the policy."""
    policy = canonical({'bank': 'sha256', 'pcrs': v['pcrs']})
    fields = [bytes.fromhex(v['srkName']), bytes.fromhex(v['srkTemplate']), policy, *map(bytes.fromhex, v['sealed'])]
    body = b''.join(map(lp, fields))
    salt = sha256(b''.join(map(lp, v['args'])) + lp(body))
    key = hkdf(b''.join(map(bytes.fromhex, v['secrets'])), salt, f'auxcred/v1/{v["args"][0]}'.encode(), 32)
    return body + encrypt(key, bytes(12), bytes.fromhex(v['fileKey']))


# Vectors: each function fills in what follows from the rest of a vector


def spelt(text):
    return text['repeat'] * text['times'] if isinstance(text, dict) else text


def readable(content):
    try:
        return {'text': content.decode()}
    except UnicodeDecodeError:
        return {'hex': content.hex()}


def scope_vector(v):
    seed = node(bytes.fromhex(v['parent']), v['kind'], v['name'], v['epoch'])
    return {
        'seed': seed.hex(),
        'keyId': key_id(seed).hex(),
        'stateKey': below(seed, 'state').hex(),
        'releaseKey': below(seed, 'release').hex(),
    }


def first_secret_vector(v):
    scope = bytes.fromhex(v['seed'])
    return {
        'realm': {'params': params_of(v['options'])},
        'leaf': leaf(scope, realm_of(v)).hex(),
        'value': secret_of(scope, v)[0].hex(),
    }


def kind_vector(v):
    scope = bytes.fromhex(v['seed'])
    private, public, thrown_away = secret_of(scope, v)
    value = {'hex': private.hex()} if v['options']['kind'] == 'bytes' else {'text': private.decode()}
    return {
        'params': params_of(v['options']),
        'realmDigest': realm_digest({'form': 'derived', **v}).hex(),
        'leaf': leaf(scope, realm_of(v)).hex(),
        **value,
        **({'public': public.decode()} if public else {}),
        **({'thrownAway': thrown_away} if 'thrownAway' in v else {}),
    }


def default_vector(v):
    options = options_of({'kind': v['kind']}, v['name'], v['host'])
    secret = {'name': v['name'], 'options': options, 'period': '', 'generation': 1}
    return {
        'options': options,
        'params': params_of(options),
        'value': secret_of(bytes.fromhex(v['seed']), secret)[0].hex(),
    }


def period_vector(v):
    date = datetime.date.fromisoformat(v['at'][:10])
    start, end = (f'{day}T00:00:00.000Z' for day in (start_of(v['rotation'], date), end_of(v['rotation'], date)))
    return {
        'name': period_at(v['rotation'], date),
        'start': start,
        'end': end,
        'previous': period_before(v['rotation'], date),
    }


def crypt_vector(v):
    scope, hashed = bytes.fromhex(v['seed']), {**v, 'of': {'form': 'derived', **v['of']}}
    phrase, salt = secret_of(scope, v['of'])[0], hash_salt(scope, hashed)
    setting = hash_setting(v['method'], v['rounds'], salt)
    text = crypt3(phrase, setting)
    return {
        'phrase': phrase.decode(),
        'params': hash_params(hashed),
        'salt': salt.hex(),
        'setting': setting,
        'hash': text.decode(),
        'sealed': seal_hash(scope, hashed, text),
    }


def fixed_vector(v):
    scope, value = bytes.fromhex(v['seed']), bytes.fromhex(spelt(v['value']))
    content = fixed_file(scope, v['path'], v['sequence'], bytes.fromhex(v['nonce']), value)
    keys = {
        'keyId': key_id(scope).hex(),
        'key': below(scope, 'fixed', lp(v['path'])).hex(),
        'fingerprintKey': below(scope, 'fingerprint').hex(),
        'fingerprint': fixed_fingerprint(scope, v['path'], value),
    }
    return {**keys, **({'digest': sha256(content).hex()} if isinstance(v['value'], dict) else {'file': content.hex()})}


def bad_fixed_vector(v):
    """`plaintext`: what a program with the key, and without the rules, would encrypt."""
    scope, made = bytes.fromhex(v['seed']), {}
    if 'plaintext' in v:
        plaintext = b''.join(bytes.fromhex(spelt(part)) for part in v['plaintext'])
        content = fixed_sealed(
            scope, v['path'], fixed_header(scope, v['sequence'], bytes.fromhex(v['nonce'])), plaintext
        )
        made = {'digest': sha256(content).hex()} if len(content) > 1000 else {'file': content.hex()}
    else:
        content = bytes.fromhex(spelt(v['file']))
    says = fixed_value(scope, v['path'], content)
    return {**made, 'says': says if isinstance(says, str) else 'OPENS'}


def canonical_vector(v):
    return {'canonical': canonical(json.loads(v['json']))}


def bad_canonical_vector(v):
    try:
        return {'refused': not canonical(json.loads(v['json']))}
    except ValueError:
        return {'refused': True}


def template_vector(v):
    def value_of(name):
        if name in v['secrets']:
            return evaluated(v['secrets'][name])
        value = v['values'][name]
        return bytes.fromhex(value['hex']) if 'hex' in value else value['text'].encode()

    def evaluated(template):
        parts = []
        for piece in declared_pieces(template):
            content = piece.encode() if isinstance(piece, str) else value_of(piece['reference'])
            for escape in [] if isinstance(piece, str) else piece['escapes']:
                content = escaped(escape, content)
            parts.append(content)
        return b''.join(parts)

    return readable(evaluated(v['secrets']['t']))


def recipe_vector(v):
    machine = Machine(v)
    releases = sorted(machine.releases(), key=lambda one: f'{one["unit"]}/{one["credential"]}'.encode())
    host, values = machine.seeds[machine.host], {}
    for one in releases:
        values[f'{one["unit"]}/{one["credential"]}'] = machine.value(one['recipe'])
    fingerprints = {key: release_fingerprint(host, *key.split('/'), value) for key, value in values.items()}
    history = {name: [{'recipe': machine.recipe(name), 'since': v['since']}] for name in v['secrets']}
    return {
        'values': {key: readable(value) for key, value in values.items()},
        'fingerprints': fingerprints,
        'releases': machine.authenticated(
            {
                'kind': 'releases',
                'counter': v['counter'],
                **({'tpmCounter': v['tpmCounter']} if 'tpmCounter' in v else {}),
                'releases': releases,
            }
        ),
        'record': machine.authenticated(
            {
                'kind': 'record',
                'policy': {'pcrs': [], 'withKey': 'host'},
                'recipients': v['recipients'],
                'history': history,
                'fingerprints': fingerprints,
                'fingerprintLabel': 'release',
            }
        ),
    }


def release_vector(v):
    return {
        'fingerprint': release_fingerprint(
            bytes.fromhex(v['seed']), v['unit'], v['credential'], bytes.fromhex(spelt(v['value']))
        )
    }


def words_vector(v):
    return {'words': on_paper(bytes.fromhex(v['seed']))}


def stanza_vector(v):
    return {'body': tpm_stanza(v).hex()}


def payload_vector(v):
    fleet = bytes.fromhex(v['fleet'])
    scopes = [
        {**one, 'seed': base64.b64encode(node(fleet, one['kind'], one['name'], one['epoch'])).decode()}
        for one in v['scopes']
    ]
    payload = {
        'version': 1,
        'counter': v['counter'],
        'policy': v['policy'],
        'recipients': v['recipients'],
        'scopes': scopes,
    }
    return {'payload': canonical(payload), 'handed': canonical({'version': 1, 'scopes': scopes}) + '\n'}


def audit_hash(before, fields):
    content = b'auxcred/v1/audit' + before
    for name in sorted(fields):
        covered = name in ('MESSAGE', 'MESSAGE_ID', 'PRIORITY') or name.startswith('AUXCRED_')
        if covered and name not in ('AUXCRED_HASH', 'AUXCRED_SIGNATURE'):
            for part in (name.encode(), fields[name].encode()):
                content += u32(len(part)) + part
    return sha256(content)


def audit_vector(v):
    seed = below(bytes.fromhex(v['seed']), 'audit')
    public = bytes.fromhex('302a300506032b6570032100') + ed25519(seed)
    before = bytes.fromhex(v['before'])
    hashes = []
    for fields in v['records']:
        before = audit_hash(before, fields)
        hashes.append(before.hex())
    return {
        'publicKey': 'auxcred-audit ' + base64.b64encode(public).decode(),
        'keyId': sha256(public)[:8].hex(),
        'hashes': hashes,
        'signature': base64.b64encode(ed25519_signature(seed, b'auxcred/v1/audit\0' + before)).decode(),
    }


def list_vector(v):
    words, digest = {'eff': eff_words, 'bip39': bip39_words}[v['list']]()
    return {'words': len(words), 'sha256': digest}


VECTORS = {
    'derivation.json': {'scopes': scope_vector, 'secrets': first_secret_vector},
    'kinds.json': {'secrets': kind_vector, 'defaults': default_vector},
    'periods.json': {'periods': period_vector},
    'crypt.json': {'hashes': crypt_vector},
    'fixed.json': {'secrets': fixed_vector, 'invalid': bad_fixed_vector},
    'canonical.json': {'values': canonical_vector, 'invalid': bad_canonical_vector},
    'templates.json': {'templates': template_vector},
    'recipes.json': {'machines': recipe_vector, 'fingerprints': release_vector},
    'seeds.json': {'stanzas': stanza_vector, 'payloads': payload_vector},
    'audit.json': {'chains': audit_vector},
    'words.json': {'lists': list_vector, 'seeds': words_vector},
}


def written(content, indented):
    if indented:
        return json.dumps(content, indent=1) + '\n'

    def one(value):
        return (
            '[\n' + ',\n'.join(f'  {json.dumps(item)}' for item in value) + '\n ]'
            if isinstance(value, list)
            else json.dumps(value)
        )

    return '{\n' + ',\n'.join(f' {json.dumps(key)}: {one(value)}' for key, value in content.items()) + '\n}\n'


def main(folder, write):
    wrong = 0
    for name, lists in VECTORS.items():
        file = pathlib.Path(folder, name)
        if not file.exists():
            continue
        content = json.loads(file.read_text())
        for key, fill in lists.items():
            for index, vector in enumerate(content.get(key, [])):
                computed = fill(vector)
                differ = [field for field, value in computed.items() if field not in vector or vector[field] != value]
                if write:
                    vector.update(computed)
                elif differ:
                    wrong += 1
                    values = [computed[field] for field in differ]
                    print(f'{name}: {key}[{index}] {vector.get("what", "")}: {", ".join(differ)}: {values}')
        if write:
            file.write_text(written(content, name in ('derivation.json', 'fixed.json')))
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1], '--write' in sys.argv))
