/**
 * Names of systemd's units: what is one, what belongs to which, and which unit a process is in (systemd.unit(5),
 * src/basic/unit-name.c).
 */

/** At most 255 bytes of the characters that systemd allows; `@` can't come first. */
const unitPattern =
  /^[A-Za-z0-9:_.\\-][A-Za-z0-9:_.\\@-]*\.(?:service|socket|target|device|mount|automount|swap|timer|path|slice|scope)$/;
const longestName = 255;

/** Whether `text` names a unit: a plain one, an instance or a template. */
const isUnit = (text: string): boolean => text.length <= longestName && unitPattern.test(text);

/** Whether `text` names a service, or a template of services. */
export const isService = (text: string): boolean => text.endsWith('.service') && isUnit(text);

/** Whether `text` names a unit that can't have the credentials of a service. */
export const isOtherUnit = (text: string): boolean => !text.endsWith('.service') && isUnit(text);

/** Whether a unit is a template, which only its instances run. */
export const isTemplate = (unit: string): boolean =>
  unit.includes('@.') && unit.indexOf('@') === unit.lastIndexOf('.') - 1;

/** `web@.service` for `web@blue.service`; undefined for a unit that is no instance. */
export function templateOf(unit: string): string | undefined {
  const at = unit.indexOf('@');
  const dot = unit.lastIndexOf('.');
  return at > 0 && dot > at + 1 ? `${unit.slice(0, at + 1)}${unit.slice(dot)}` : undefined;
}

/** A pattern for systemctl(1): all instances of a template, or the unit itself. A backslash in a name is one there. */
export const instancesOf = (unit: string): string =>
  (isTemplate(unit) ? unit.replace('@.', '@*.') : unit).replaceAll('\\', '\\\\');

/**
 * The room that systemd leaves for a unit's name and a credential's id together: sun_path has 108 bytes, of which a NUL
 * at both ends, 16 hexadecimal digits and `/unit//` are taken (unix(7); systemd src/core/exec-credential.c).
 */
export const socketNameRoom = 83;

/** PID 1's own unit. */
export const managerUnit = 'init.scope';

/**
 * The unit that a process belongs to, as systemd reads it (cg_path_get_unit() in src/basic/cgroup-util.c): the slices
 * at the beginning of the path are skipped, and the component after them is the unit, whatever is below it. A unit that
 * may make control groups (`Delegate=`) makes them there, so it can't take another unit's name.
 * @param cgroup - the process' /proc/PID/cgroup
 * @returns undefined for a process outside of every unit
 */
export function unitOfProcess(cgroup: string): string | undefined {
  const components = pathIn(cgroup)
    .split('/')
    .filter((component) => component !== '')
    .map(unescaped);
  const unit = components.find((component) => !isSlice(component));
  return unit !== undefined && isUnit(unit) && !isTemplate(unit) ? unit : undefined;
}

/**
 * The path in systemd's own hierarchy: the unified one, or the one named `systemd` if the unified one is not systemd's.
 */
function pathIn(cgroup: string): string {
  const pathOf = (controller: string): string => new RegExp(`^\\d+:${controller}:(/.*)$`, 'm').exec(cgroup)?.[1] ?? '/';
  const unified = pathOf('');
  return unified === '/' ? pathOf('name=systemd') : unified;
}

/**
 * cg_unescape(): systemd puts a `_` before a name that the kernel could take for one of its own files
 * (`memory.service`), or that begins with one.
 */
const unescaped = (component: string): string => (component.startsWith('_') ? component.slice(1) : component);

const isSlice = (component: string): boolean =>
  component.endsWith('.slice') && isUnit(component) && !component.includes('@');
