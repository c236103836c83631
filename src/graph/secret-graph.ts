/** Which unit gets what, and what that is made of, as a graph. */
import {
  anyUnit,
  type Content,
  credentialsOf,
  kindOfContent,
  receiversOf,
  rotates,
  type SecretDeclaration,
} from '../manifest/declaration.ts';
import { dependenciesOf } from '../manifest/dependencies.ts';

/** A scope, a secret, a secret that is made of others, or a unit. */
export type NodeKind = 'scope' | 'secret' | 'made' | 'unit';

export interface GraphNode {
  /** Unique: kind and name. */
  readonly id: string;
  readonly kind: NodeKind;
  readonly name: string;
  /** `password, monthly`; empty for a node without a kind. */
  readonly detail: string;
}

export interface GraphEdge {
  readonly from: GraphNode;
  readonly to: GraphNode;
  /** Under which names the target gets it; empty between a scope and its secrets. */
  readonly as: readonly string[];
}

export interface SecretGraph {
  /** By kind, then by name. */
  readonly nodes: readonly GraphNode[];
  readonly edges: readonly GraphEdge[];
}

/** The scope that a content comes from; undefined for one that is made of others. */
export const scopeOf = (content: Content, host: string): string | undefined =>
  content.form === 'derived' || content.form === 'fixed'
    ? content.share === undefined
      ? host
      : `group/${content.share}`
    : undefined;

/** What a secret is made of, each part once. */
export function madeOf(
  { content }: SecretDeclaration,
  byName: ReadonlyMap<string, SecretDeclaration>,
): { name: string; part: string }[] {
  const dependencies = dependenciesOf(content, (name) => byName.has(name));
  return [...new Map(dependencies.map((one) => [`${one.name}.${one.part}`, one])).values()];
}

/** The name of a receiver for people: that of the unit, or words for {@link anyUnit}. */
export const receiverText = (unit: string): string => (unit === anyUnit ? 'anyone who may read it' : unit);

function detailOf(content: Content): string {
  const rotation = content.form === 'derived' && rotates(content) ? content.rotate : undefined;
  return `${kindOfContent(content)}${rotation === undefined ? '' : `, ${rotation}`}`;
}

/**
 * The same graph whatever the order of the declarations.
 * @param host - the scope of secrets that are not shared: `host/web1`
 */
export function secretGraph(unordered: readonly SecretDeclaration[], host: string): SecretGraph {
  const declarations = [...unordered].sort((a, b) => (a.name < b.name ? -1 : 1));
  const byName = new Map(declarations.map((declaration) => [declaration.name, declaration]));
  const nodes = new Map<string, GraphNode>();
  const nodeOf = (kind: NodeKind, name: string, detail = ''): GraphNode => {
    const id = `${kind} ${name}`;
    const node = nodes.get(id) ?? { id, kind, name, detail };
    nodes.set(id, node);
    return node;
  };
  const secretNode = ({ name, content }: SecretDeclaration): GraphNode =>
    nodeOf(scopeOf(content, host) === undefined ? 'made' : 'secret', name, detailOf(content));
  const edges = declarations.flatMap((declaration): GraphEdge[] => {
    const self = secretNode(declaration);
    const scope = scopeOf(declaration.content, host);
    const used = madeOf(declaration, byName);
    return [
      ...(scope === undefined ? [] : [{ from: nodeOf('scope', scope), to: self, as: [] }]),
      ...[...new Set(used.map(({ name }) => name))].flatMap((name) => {
        const from = byName.get(name);
        const parts = used.filter((other) => other.name === name).map(({ part }) => part);
        const as = parts.map((part) => (part === 'secret' ? name : `${name}.${part}`));
        return from ? [{ from: secretNode(from), to: self, as }] : [];
      }),
      ...receiversOf(declaration).map((unit) => ({
        from: self,
        to: nodeOf('unit', receiverText(unit)),
        as: credentialsOf(declaration).map(({ id }) => id),
      })),
    ];
  });
  const kinds: readonly NodeKind[] = ['scope', 'secret', 'made', 'unit'];
  const key = ({ kind, name }: GraphNode): string => `${String(kinds.indexOf(kind))} ${name}`;
  return { nodes: [...nodes.values()].sort((a, b) => (key(a) < key(b) ? -1 : 1)), edges };
}
