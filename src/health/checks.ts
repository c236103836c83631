/** Every check of doctor, and what they find. */
import { type Check, findingsBy } from './checks/check.ts';
import { disk, swap } from './checks/disk.ts';
import { access, leftovers, sight } from './checks/files.ts';
import { fixed } from './checks/fixed.ts';
import { generator } from './checks/generator.ts';
import { hostKey } from './checks/host-key.ts';
import { locked, policies } from './checks/locked.ts';
import { hooks, manifest, unread } from './checks/manifest.ts';
import { opening } from './checks/opening.ts';
import { links, overrides } from './checks/overrides.ts';
import { broker, brokerAccess, files, sockets, timer } from './checks/own-units.ts';
import { pins } from './checks/pins.ts';
import { recovery } from './checks/recovery.ts';
import { account, libtss2, node } from './checks/runtime.ts';
import { clock, older, stale, wanted } from './checks/secrets.ts';
import { seed } from './checks/seed.ts';
import { snapshot } from './checks/snapshot.ts';
import { counter, kernels, nextBoot, pcrs, tpm } from './checks/tpm.ts';
import { unbound } from './checks/unbound.ts';
import { units } from './checks/units.ts';
import { volatile } from './checks/volatile.ts';
import type { Finding } from './finding.ts';
import type { Health } from './health.ts';

/** In the order in which a secret flows: what nothing can work without comes first. */
const checks: readonly Check[] = [
  node,
  libtss2,
  account,
  seed,
  pins,
  hostKey,
  tpm,
  pcrs,
  policies,
  locked,
  nextBoot,
  kernels,
  counter,
  opening,
  recovery,
  unbound,
  access,
  leftovers,
  volatile,
  disk,
  swap,
  manifest,
  unread,
  snapshot,
  clock,
  older,
  wanted,
  stale,
  fixed,
  hooks,
  generator,
  sockets,
  brokerAccess,
  broker,
  timer,
  files,
  units,
  overrides,
  links,
  sight,
];

/** What doctor finds, in the order of the checks. */
export const findingsOf = (health: Health): Finding[] => checks.flatMap((check) => findingsBy(check, health));
