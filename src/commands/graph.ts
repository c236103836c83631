import { utf8 } from '../bytes.ts';
import { viewOf } from '../cli/chosen-manifest.ts';
import { graphFormats } from '../cli/manual.ts';
import { Options } from '../cli/options.ts';
import { Failure } from '../failure.ts';
import {
  type GraphEdge,
  type GraphNode,
  madeOf,
  receiverText,
  type SecretGraph,
  scopeOf,
  secretGraph,
} from '../graph/secret-graph.ts';
import { svgOf } from '../graph/svg.ts';
import { credentialsOf, kindOfContent, receiversOf, type SecretDeclaration } from '../manifest/declaration.ts';
import { print, printBytes } from '../terminal/say.ts';
import { type Branch, drawTree } from '../terminal/tree.ts';

/** `auxcred graph`: shows which unit gets what, and what that is made of, as text or as a picture. Opens no seed. */
export function graph(argv: readonly string[]): number {
  const options = new Options('graph', argv);
  options.exactly();
  const { manifest, standpoint } = viewOf(options);
  const declarations = [...manifest.declarations].sort((a, b) => (a.name < b.name ? -1 : 1));
  const { host } = standpoint;
  const format = formatOf(options);
  if (format === 'svg') printBytes(utf8(svgOf(secretGraph(declarations, host), `Secrets of ${host}`)));
  else
    for (const line of format === 'dot' ? dot(secretGraph(declarations, host)) : tree(declarations, host)) print(line);
  return 0;
}

/** @throws Failure `usage` */
function formatOf(options: Options): (typeof graphFormats)[number] {
  const given = options.value('format') ?? 'text';
  const format = graphFormats.find((known) => known === given);
  if (!format)
    throw new Failure('usage', `--format=${given} is not one of ${graphFormats.join(', ')}`, {
      hint: 'auxcred graph --format=svg',
    });
  return format;
}

function tree(declarations: readonly SecretDeclaration[], host: string): string[] {
  const byName = new Map(declarations.map((declaration) => [declaration.name, declaration]));
  const describe = (name: string, part: string): string => {
    const declaration = byName.get(name);
    if (!declaration) return name;
    const scope = scopeOf(declaration.content, host);
    const kind = `${kindOfContent(declaration.content)}${scope === undefined ? '' : ` of ${scope}`}`;
    return `${name}${part === 'secret' ? '' : `.${part}`}  ${kind}`;
  };
  const branch = (name: string, part: string, shown = ''): Branch => {
    const declaration = byName.get(name);
    return {
      label: `${shown}${describe(name, part)}`,
      below:
        declaration && part === 'secret' ? madeOf(declaration, byName).map((item) => branch(item.name, item.part)) : [],
    };
  };
  const given = new Map<string, { name: string; id: string; part: string }[]>();
  for (const declaration of declarations)
    for (const unit of new Set(receiversOf(declaration))) {
      const list = given.get(unit) ?? [];
      given.set(unit, list);
      for (const { id, part } of credentialsOf(declaration)) list.push({ name: declaration.name, id, part });
    }
  const units = [...given].sort(([a], [b]) => (a < b ? -1 : 1));
  return units.flatMap(([unit, credentials]) => [
    receiverText(unit),
    ...drawTree(
      credentials.map(({ name, id, part }) =>
        branch(name, part, id === (part === 'secret' ? name : `${name}.${part}`) ? '' : `${id} = `),
      ),
    ),
  ]);
}

/** For Graphviz. A quoted name is as in JSON there, for all that names of secrets and units may have. */
function dot({ nodes, edges }: SecretGraph): string[] {
  const quoted = (text: string): string => JSON.stringify(text);
  const shapes = { scope: 'plaintext', secret: 'ellipse', made: 'ellipse', unit: 'box' } as const;
  const about = ({ name, detail }: GraphNode): string => quoted(detail === '' ? name : `${name}\n${detail}`);
  const label = ({ from, as }: GraphEdge): string => {
    const text = as.join(', ');
    return text === '' || text === from.name ? '' : ` [label=${quoted(text)}]`;
  };
  return [
    'digraph secrets {',
    '  rankdir=LR;',
    ...nodes.map((node) => `  ${quoted(node.id)} [label=${about(node)}, shape=${shapes[node.kind]}];`),
    ...edges.map((edge) => `  ${quoted(edge.from.id)} -> ${quoted(edge.to.id)}${label(edge)};`),
    '}',
  ];
}
