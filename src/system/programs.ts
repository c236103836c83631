/**
 * Node's way to start programs, loaded at the first call: most runs of the generator, `get` and `apply` start none, and
 * it loads sockets and datagrams too.
 */
export const programs = () => process.getBuiltinModule('node:child_process');
