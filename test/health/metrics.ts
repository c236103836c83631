import assert from 'node:assert/strict';

/** The samples of metrics as text, by name and labels. */
export function valuesIn(text: string): Map<string, number> {
  const values = new Map<string, number>();
  for (const line of text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))) {
    const [, name = '', value = ''] = /^([a-z_]+(?:\{[^}]*\})?) (\S+)$/.exec(line) ?? [];
    assert.ok(name !== '' && !values.has(name), line);
    values.set(name, Number(value));
  }
  return values;
}
