/**
 * Names of systemd's units: validates them, relates instances to templates, and finds the unit of a process
 * (systemd.unit(5), src/basic/unit-name.c).
 */

/** The characters that systemd allows, at most 255 bytes; `@` can't come first. */
const unitPattern =
  /^[A-Za-z0-9:_.\\-][A-Za-z0-9:_.\\@-]*\.(?:service|socket|target|device|mount|automount|swap|timer|path|slice|scope)$/;
const longestName = 255;

/** Whether `text` names a unit: a plain one, an instance or a template. */
const isUnit = (text: string): boolean => text.length <= longestName && unitPattern.test(text);

/** Whether `text` names a service, or a template of services. */
export const isService = (text: string): boolean => text.endsWith('.service') && isUnit(text);

/** Whether `text` names a unit that can't have the credentials of a service. */
export const isOtherUnit = (text: string): boolean => !text.endsWith('.service') && isUnit(text);

/** Whether a unit is a template, which does not run itself. */
export const isTemplate = (unit: string): boolean =>
  unit.includes('@.') && unit.indexOf('@') === unit.lastIndexOf('.') - 1;

/** The template of an instance: `web@.service` for `web@blue.service`; undefined for other units. */
export function templateOf(unit: string): string | undefined {
  const at = unit.indexOf('@');
  const dot = unit.lastIndexOf('.');
  return at > 0 && dot > at + 1 ? `${unit.slice(0, at + 1)}${unit.slice(dot)}` : undefined;
}

/**
 * A pattern for `systemctl list-units` that matches all instances of a template, or the unit itself. A backslash stands
 * for itself there (FNM_NOESCAPE in systemd's src/core/dbus-manager.c).
 */
export const instancesOf = (unit: string): string => (isTemplate(unit) ? unit.replace('@.', '@*.') : unit);

/**
 * The most bytes of a unit's name and a credential's id together: sun_path has 108 bytes, less a NUL at both ends, 16
 * hexadecimal digits and `/unit//` (unix(7); systemd src/core/exec-credential.c).
 */
export const socketNameRoom = 83;

/** PID 1's own unit. */
export const managerUnit = 'init.scope';

/**
 * The unit of a process, as systemd determines it (cg_path_get_unit() in src/basic/cgroup-util.c): after the slices at
 * the beginning of the path, the next component is the unit. A unit that can make control groups (`Delegate=`) makes
 * them below that, so it can't pose as another unit.
 * @param cgroup - the content of the process's /proc/PID/cgroup
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
 * The path in systemd's hierarchy: the unified one, or the one named `systemd` if systemd does not use the unified one.
 */
function pathIn(cgroup: string): string {
  const pathOf = (controller: string): string => new RegExp(`^\\d+:${controller}:(/.*)$`, 'm').exec(cgroup)?.[1] ?? '/';
  const unified = pathOf('');
  return unified === '/' ? pathOf('name=systemd') : unified;
}

/**
 * cg_unescape(): systemd adds a leading `_` to names that could be the kernel's own files (`memory.service`), and to
 * names that begin with `_`.
 */
const unescaped = (component: string): string => (component.startsWith('_') ? component.slice(1) : component);

const isSlice = (component: string): boolean =>
  component.endsWith('.slice') && isUnit(component) && !component.includes('@');
