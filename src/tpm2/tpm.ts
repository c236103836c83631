/** Connects to a TPM 2.0 through libtss2's ESYS (TSS 2.0 Enhanced System API). */
import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Failure } from '../failure.ts';
import { type Argument, bind, LibraryMissing, type NativeFunction } from '../system/ffi.ts';
import { waysOut } from '../system/ways-out.ts';
import { TpmError, tpmFailure, tssReason } from './response.ts';

/** The kernel's TPM resource manager. */
export const defaultDevice = 'device:/dev/tpmrm0';

/** ESYS's own handles (ESYS specification, section 4). */
export const esysHandles = { none: 0xfff, password: 0xff, owner: 0x101, endorsement: 0x10b } as const;

const startupClear = 0;

/** Milliseconds to wait for room in the TPM. A process that works there needs some tenths of a second. */
const roomPatience = 3000;

const signatures = {
  Esys_Initialize: 'u:ppp',
  Esys_Finalize: 'v:p',
  Esys_Free: 'v:p',
  Esys_Startup: 'u:ph',
  Esys_TR_FromTPMPublic: 'u:puuuup',
  Esys_TR_GetName: 'u:pup',
  Esys_CreatePrimary: 'u:puuuupppp' + 'ppppp',
  Esys_StartAuthSession: 'u:puuuuupbphp',
  Esys_TRSess_SetAttributes: 'u:pubb',
  Esys_PolicyPCR: 'u:puuuupp',
  Esys_PolicyOR: 'u:puuuup',
  Esys_PolicyAuthorize: 'u:puuuupppp',
  Esys_PolicyAuthorizeNV: 'u:puuuuuu',
  Esys_PolicySecret: 'u:puuuuupppipp',
  Esys_PolicyGetDigest: 'u:puuuup',
  Esys_LoadExternal: 'u:puuuppup',
  Esys_VerifySignature: 'u:puuuuppp',
  Esys_PCR_Read: 'u:puuupppp',
  Esys_PCR_Event: 'u:puuuupp',
  Esys_ReadPublic: 'u:puuuuppp',
  Esys_GetCapability: 'u:puuuuuupp',
  Esys_Create: 'u:puuuupppp' + 'ppppp',
  Esys_Import: 'u:puuuu' + 'pppppp',
  Esys_Load: 'u:puuuuppp',
  Esys_Unseal: 'u:puuuup',
  Esys_ActivateCredential: 'u:puuuuuppp',
  Esys_Quote: 'u:puuuuppppp',
  Esys_Certify: 'u:puuuuupppp',
  Esys_NV_ReadPublic: 'u:puuuupp',
  Esys_NV_DefineSpace: 'u:puuuuppp',
  Esys_NV_Increment: 'u:puuuuu',
  Esys_NV_Read: 'u:puuuuuhhp',
  Esys_NV_Certify: 'u:puuuuuupphhpp',
  Esys_FlushContext: 'u:pu',
} as const;

interface Libraries {
  readonly esys: Record<keyof typeof signatures, NativeFunction>;
  readonly libc: Record<'explicit_bzero', NativeFunction>;
  readonly loader: Record<'Tss2_TctiLdr_Initialize' | 'Tss2_TctiLdr_Finalize', NativeFunction>;
}

let libraries: Libraries | undefined;

function loadLibraries(): Libraries {
  // libtss2 writes its own messages to standard error. It reads this setting before the first one.
  process.env['TSS2_LOG'] = 'all+none';
  try {
    return {
      esys: bind('libtss2-esys.so.0', signatures),
      libc: bind('libc.so.6', { explicit_bzero: 'v:pz' }),
      loader: bind('libtss2-tctildr.so.0', { Tss2_TctiLdr_Initialize: 'u:sp', Tss2_TctiLdr_Finalize: 'v:p' }),
    };
  } catch (error) {
    if (!(error instanceof LibraryMissing)) throw error;
    throw new Failure('no-tpm', 'the TPM library libtss2 is not installed', {
      hint: waysOut().install('libtss2'),
      cause: error,
    });
  }
}

/**
 * Parses a device in systemd's notation: `device:/dev/tpmrm0`, `/dev/tpmrm0`, `swtpm:path=/run/swtpm.sock`. Probes
 * nothing: a root process must never fall through to somebody's socket.
 * @returns its TCTI
 * @throws Failure `usage`
 */
export function parseDevice(text: string): string {
  if (text.startsWith('/')) return `device:${text}`;
  if (!/^[a-z]+:\S/.test(text))
    throw new Failure('usage', `${text} is not a TPM device`, {
      hint: 'device:/dev/tpmrm0, or swtpm:path=/path/of/socket',
    });
  return text;
}

/** The device node of a TCTI; undefined if it has none. */
export const nodeOf = (tcti: string): string | undefined => /^device:(.+)$/.exec(tcti)?.[1];

/**
 * The Unix sockets of a TCTI for swtpm: its own, and the control socket of libtss2-tcti-swtpm. None for other TCTIs.
 */
export function socketsOf(tcti: string): string[] {
  const path = /^swtpm:(?:.*,)?path=([^,]+)/.exec(tcti)?.[1];
  return path === undefined ? [] : [path, `${path}.ctrl`];
}

/** Whether something exists at a device, or at the default one. */
export function tpmPresent(device: string | undefined): boolean {
  const node = nodeOf(parseDevice(device ?? defaultDevice));
  return node === undefined || existsSync(node);
}

/**
 * Opens a TPM. Each command runs on its own thread, so that a TPM that hangs does not block the process.
 * @param device - in systemd's notation; undefined for the default one
 * @param patience - milliseconds to wait for the device node, which udev makes during boot
 * @throws Failure `no-tpm`
 */
export async function openTpm(device: string | undefined, patience = 0): Promise<Tpm> {
  const tcti = parseDevice(device ?? defaultDevice);
  const node = nodeOf(tcti);
  for (const deadline = Date.now() + patience; node !== undefined && !existsSync(node); await sleep(50)) {
    if (Date.now() >= deadline)
      throw new Failure('no-tpm', `there is no TPM at ${node}`, {
        hint: 'is it enabled in the firmware? --with-key=host, or with-key = "host" in the operator\'s vault.toml, does without',
      });
  }
  libraries ??= loadLibraries();
  const transport = Buffer.alloc(8);
  const context = Buffer.alloc(8);
  const opened = Number(await libraries.loader.Tss2_TctiLdr_Initialize.async(tcti, transport));
  if (opened !== 0) {
    const cause = new TpmError('Tss2_TctiLdr_Initialize', opened);
    throw new Failure('no-tpm', `the TPM at ${tcti} can't be opened: ${tssReason(cause)}`, {
      hint: 'check the device, and that this user may open it',
      cause,
    });
  }
  const initialized = Number(libraries.esys.Esys_Initialize(context, transport.readBigUInt64LE(), null));
  if (initialized !== 0) {
    libraries.loader.Tss2_TctiLdr_Finalize(transport);
    throw tpmFailure(new TpmError('Esys_Initialize', initialized));
  }
  const tpm = new Tpm(libraries, transport, context);
  try {
    await tpm.call('Esys_Startup', startupClear);
    return tpm;
  } catch (error) {
    await tpm.close();
    throw tpmFailure(error);
  }
}

/** An open TPM. Closing it flushes everything that it loaded. */
export class Tpm {
  readonly none = esysHandles.none;
  readonly #libraries: Libraries;
  readonly #tcti: Buffer;
  readonly #context: Buffer;
  readonly #transient = new Set<number>();

  constructor(opened: Libraries, tcti: Buffer, context: Buffer) {
    this.#libraries = opened;
    this.#tcti = tcti;
    this.#context = context;
  }

  /**
   * Makes one ESYS call with the context and `args`. Waits for room: a TPM without a resource manager may be full of
   * what another process works with.
   * @throws TpmError
   */
  async call(name: keyof typeof signatures, ...args: readonly Argument[]): Promise<void> {
    for (const deadline = performance.now() + roomPatience; ; await sleep(20)) {
      const code = Number(await this.#libraries.esys[name].async(this.#context.readBigUInt64LE(), ...args));
      if (code === 0) return;
      const error = new TpmError(name, code);
      const isFull = error.is('objectMemory') || error.is('sessionMemory');
      if (!isFull || performance.now() >= deadline) throw error;
    }
  }

  /** Makes a call whose last output is a handle. {@link release} or {@link close} flushes it. @throws TpmError */
  async handle(make: (slot: Buffer) => Promise<void>): Promise<number> {
    const slot = Buffer.alloc(4);
    await make(slot);
    const handle = slot.readUInt32LE();
    this.#transient.add(handle);
    return handle;
  }

  /** As {@link handle}, for a persistent object, which is not flushed. @throws TpmError */
  async persistentHandle(make: (slot: Buffer) => Promise<void>): Promise<number> {
    const slot = Buffer.alloc(4);
    await make(slot);
    return slot.readUInt32LE();
  }

  /**
   * Makes a call with `count` outputs that ESYS allocates: `make` gets a slot for each, `read` gets the pointers, which
   * are freed afterwards.
   * @throws TpmError
   */
  async outputs<T>(
    count: number,
    make: (...slots: Buffer[]) => Promise<void>,
    read: (pointers: bigint[]) => T,
  ): Promise<T> {
    const slots = Array.from({ length: count }, () => Buffer.alloc(8));
    await make(...slots);
    const pointers = slots.map((slot) => slot.readBigUInt64LE());
    try {
      return read(pointers);
    } finally {
      for (const pointer of pointers) if (pointer !== 0n) this.#libraries.esys.Esys_Free(pointer);
    }
  }

  /** Overwrites `length` bytes at a pointer that ESYS returned. */
  wipe(pointer: bigint, length: number): void {
    this.#libraries.libc.explicit_bzero(pointer, length);
  }

  /** Flushes a transient object or a session. */
  async release(handle: number): Promise<void> {
    if (this.#transient.delete(handle)) await this.call('Esys_FlushContext', handle);
  }

  /** Flushes what is left and closes the connection. Never throws, because it also runs after failures. */
  async close(): Promise<void> {
    for (const handle of this.#transient) {
      await this.release(handle).catch(() => undefined);
    }
    this.#libraries.esys.Esys_Finalize(this.#context);
    this.#libraries.loader.Tss2_TctiLdr_Finalize(this.#tcti);
  }
}
