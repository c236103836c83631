/** `auxcred graph` in each of its formats. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { graphFormats } from '../../src/cli/manual.ts';
import { works } from '../cli.ts';

test('every format has the files of no unit, and the names of all credentials', () => {
  const folder = mkdtempSync(join(tmpdir(), 'graph-'));
  try {
    writeFileSync(
      join(folder, 'x.toml'),
      '[secret.motd]\nkind = "hex"\ndelivery = "file"\n[secret.key]\nkind = "age"\nunits = ["web\\\\x2d1.service"]\n',
    );
    const drawn = new Map(
      graphFormats.map((format) => [
        format,
        works(['graph', `--root=${folder}`, `--manifest=${folder}`, `--format=${format}`]).stdout,
      ]),
    );
    for (const [format, text] of drawn) {
      assert.match(text, /anyone who may read it/, format);
      assert.match(text, format === 'svg' ? /key, \.pub/ : /key\.pub/, format);
    }
    assert.match(drawn.get('dot') ?? '', /^ {2}"secret motd" -> "unit anyone who may read it";$/m);
    assert.match(drawn.get('dot') ?? '', /"secret key" -> "unit web\\\\x2d1\.service" \[label="key, key\.pub"\];$/m);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
