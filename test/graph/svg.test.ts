import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { type Box, layout } from '../../src/graph/layers.ts';
import {
  type GraphEdge,
  type GraphNode,
  type NodeKind,
  type SecretGraph,
  secretGraph,
} from '../../src/graph/secret-graph.ts';
import { svgOf } from '../../src/graph/svg.ts';
import { manifestOf } from '../../src/manifest/manifest.ts';

interface Rectangle {
  readonly left: number;
  readonly top: number;
  readonly right: number;
  readonly bottom: number;
}

const boxesIn = (svg: string): Rectangle[] =>
  [...svg.matchAll(/<rect class="box" x="(\S+)" y="(\S+)" width="(\S+)" height="(\S+)"/g)].map(([, ...numbers]) => {
    const [x = 0, y = 0, width = 0, height = 0] = numbers.map(Number);
    return { left: x, top: y, right: x + width, bottom: y + height };
  });

type Point = readonly [x: number, y: number];

/** Points of every line, in its order. */
const pointsIn = (svg: string): Point[][] =>
  [...svg.matchAll(/<path [^>]*d="([^"]+)"/g)].map(([, path = '']) => {
    let last: Point | undefined;
    return [...path.matchAll(/[ML]([\d.]+) ([\d.]+)C([\d.]+) ([\d.]+) ([\d.]+) ([\d.]+) ([\d.]+) ([\d.]+)/g)].flatMap(
      ([, ...numbers]) => {
        const [x1 = 0, y1 = 0, ax = 0, ay = 0, bx = 0, by = 0, x2 = 0, y2 = 0] = numbers.map(Number);
        const straight = last ? between(last, [x1, y1]) : [];
        last = [x2, y2];
        const curve = steps.map((t): Point => [bezier(t, x1, ax, bx, x2), bezier(t, y1, ay, by, y2)]);
        return [...straight, ...curve];
      },
    );
  });

const steps = Array.from({ length: 41 }, (_, i) => i / 40);
const bezier = (t: number, a: number, b: number, c: number, d: number): number =>
  (1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t ** 2 * c + t ** 3 * d;
const between = ([x1, y1]: Point, [x2, y2]: Point): Point[] =>
  steps.map((t) => [x1 + t * (x2 - x1), y1 + t * (y2 - y1)]);

const node = (kind: NodeKind, name: string, detail = ''): GraphNode => ({ id: `${kind} ${name}`, kind, name, detail });

/** A graph of so many secrets, secrets made of them, and units. */
const graphs = fc
  .record({
    secrets: fc.integer({ min: 1, max: 25 }),
    made: fc.integer({ min: 0, max: 8 }),
    units: fc.integer({ min: 0, max: 15 }),
    choices: fc.infiniteStream(fc.nat(1000)),
    long: fc.integer({ min: 1, max: 60 }),
  })
  .map(({ secrets, made, units, choices, long }): SecretGraph => {
    const choose = <T>(list: readonly T[]): T[] => {
      const { value = 0 } = choices.next();
      const item = list[value % list.length];
      return item === undefined ? [] : [item];
    };
    const name = (what: string, i: number): string => `${what}-${String(i)}${'x'.repeat((i * 7) % long)}`;
    const scopes = [node('scope', 'host/web1'), node('scope', 'group/db')];
    const plain = Array.from({ length: secrets }, (_, i) => node('secret', name('secret', i), 'password, monthly'));
    const composed = Array.from({ length: made }, (_, i) => node('made', name('env', i), 'template'));
    const services = Array.from({ length: units }, (_, i) => node('unit', `${name('unit', i)}.service`));
    const edge = (from: GraphNode, to: GraphNode, as: readonly string[]): GraphEdge => ({ from, to, as });
    const all = [...plain, ...composed];
    const edges = [
      ...plain.flatMap((secret) => choose(scopes).map((scope) => edge(scope, secret, []))),
      ...composed.flatMap((secret, i) =>
        choose([...plain, ...composed.slice(0, i)]).map((from) => edge(from, secret, [from.name])),
      ),
      ...[...all, ...all].flatMap((secret) =>
        choose(services).map((unit) => edge(secret, unit, [secret.name, `${secret.name}.pub`])),
      ),
    ];
    return { nodes: [...scopes, ...plain, ...composed, ...services], edges };
  });

describe('the picture of a graph', () => {
  test('no box lies on another, and no line crosses a box', () => {
    fc.assert(
      fc.property(graphs, (graph) => {
        const svg = svgOf(graph, 'Secrets of web1');
        const boxes = boxesIn(svg);
        assert.equal(boxes.length, graph.nodes.length);
        for (const [i, a] of boxes.entries())
          for (const b of boxes.slice(i + 1))
            assert.ok(a.right <= b.left || b.right <= a.left || a.bottom < b.top || b.bottom < a.top);
        const lines = pointsIn(svg);
        assert.equal(lines.length, graph.edges.length);
        for (const [x, y] of lines.flat())
          assert.ok(!boxes.some(({ left, top, right, bottom }) => x > left && x < right && y > top && y < bottom));
      }),
      { numRuns: 30 },
    );
  });

  test('texts fit into their boxes, in a font whose letters are 0.6 em wide', () => {
    fc.assert(
      fc.property(graphs, (graph) => {
        for (const [, x = '', width = '', rest = ''] of svgOf(graph, '').matchAll(
          /<rect class="box" x="(\d+)" y="[^"]+" width="(\d+)"[^>]*>(.*?)<\/g>/g,
        )) {
          const texts = [
            ...rest.matchAll(/<text( class="quiet")? x="([\d.]+)" y="[\d.]+"( text-anchor="end")?>([^<]*)</g),
          ];
          assert.ok(texts.length > 0);
          let free = Number(x);
          for (const [, quiet, at, end, text = ''] of texts) {
            const wide = text.length * 0.6 * (quiet === undefined ? 13 : 11);
            const left = end === undefined ? Number(at) : Number(at) - wide;
            assert.ok(left >= (end === undefined ? Number(x) : free), text);
            assert.ok(left + wide <= Number(x) + Number(width), text);
            free = left + wide;
          }
        }
      }),
      { numRuns: 30 },
    );
  });

  test('is the same each time, whatever the order of the declarations', () => {
    const { declarations } = manifestOf([{ path: 'docs/graph.toml', text: readFileSync('docs/graph.toml', 'utf8') }]);
    assert.ok(declarations.length > 5);
    const expected = svgOf(secretGraph(declarations, 'host'), 'Secrets of host');
    assert.equal(expected, readFileSync('docs/graph.svg', 'utf8'));
    assert.equal(svgOf(secretGraph([...declarations].reverse(), 'host'), 'Secrets of host'), expected);
  });

  test('is well-formed XML with a title on everything, whatever the names are', () => {
    const names = ['a&b', '<script>', '"quoted"', "it's", 'x'.repeat(300)];
    const secrets = names.map((name) => node('secret', name, '<&>'));
    const unit = node('unit', 'web@a\\x2db.service');
    const svg = svgOf(
      { nodes: [...secrets, unit], edges: secrets.map((from) => ({ from, to: unit, as: [from.name] })) },
      'Secrets of <web1>',
    );
    const { status, stdout, stderr } = spawnSync(
      'python3',
      [
        '-c',
        'import sys, xml.etree.ElementTree as tree\n' +
          'n = "{http://www.w3.org/2000/svg}"\n' +
          'root = tree.fromstring(sys.stdin.buffer.read())\n' +
          'titled = [e.find(n + "title").text for e in [root] + root.findall(n + "g") + root.findall(n + "path")]\n' +
          'print("\\n".join(titled))',
      ],
      { input: svg, encoding: 'utf8' },
    );
    assert.equal(status, 0, stderr);
    const titles = stdout.trimEnd().split('\n');
    assert.equal(titles.length, 1 + 6 + 5);
    assert.equal(titles[0], 'Secrets of <web1>');
    for (const name of names)
      assert.ok(titles.includes(`${name}: <&>`) && titles.includes(`${name} → ${unit.name} as ${name}`));
  });

  test('an empty manifest is an empty picture', () => {
    assert.match(svgOf({ nodes: [], edges: [] }, 'Secrets of host'), /0 secrets for 0 units/);
  });
});

describe('the order of boxes', () => {
  test('has no crossing where none is needed', () => {
    const names = Array.from({ length: 12 }, (_, i) => String(i));
    const boxes: Box[] = [
      ...names.map((name) => ({ id: `a${name}`, least: 0, isLast: false, height: 10 })),
      ...names.map((name) => ({ id: `b${name}`, least: 1, isLast: true, height: 10 })),
    ];
    // A shuffled matching: 5 has no divisor in common with 12.
    const links = names.map((name, i) => ({ from: `a${name}`, to: `b${String((i * 5 + 3) % 12)}` }));
    const { columns, routes } = layout(boxes, links);
    const at = new Map(columns.flat().map((place) => [place.id, place.y]));
    const ends = routes
      .map(({ link }) => [at.get(link.from) ?? 0, at.get(link.to) ?? 0] as const)
      .sort(([a], [b]) => a - b)
      .map(([, end]) => end);
    assert.deepEqual(
      ends,
      [...ends].sort((a, b) => a - b),
    );
  });
});
