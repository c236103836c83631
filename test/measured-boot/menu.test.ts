import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { installedBoots } from '../../src/health/boot-entries.ts';
import { pathsUnder } from '../../src/system/paths.ts';
import { placeMenu } from '../measured/menu.ts';
import { measuredSystem } from './system.ts';

test('the boot menu has the order that bootctl shows', async () => {
  const { root: system } = await measuredSystem();
  const root = mkdtempSync(join(tmpdir(), 'auxcred-menu-'));
  try {
    placeMenu(root);
    // bootctl wants a mount point. The mounts are the process's own.
    const script = [
      'mount -t tmpfs none "$2/mnt"',
      'mkdir "$2/mnt/efi"',
      'mount -t tmpfs none "$2/mnt/efi"',
      'cp -r "$1/efi/." "$2/mnt/efi"',
      'mount -t proc none "$2/proc"',
      'exec chroot "$2" bootctl --esp-path=/mnt/efi --no-pager list',
    ].join(' && ');
    const { stdout, stderr } = spawnSync('unshare', ['--mount', 'sh', '-c', script, 'sh', root, system], {
      encoding: 'utf8',
      env: { PATH: process.env['PATH'], SYSTEMD_RELAX_ESP_CHECKS: '1', LC_ALL: 'C' },
    });
    const shown = [...stdout.matchAll(/^ +id: (\S+)/gm)].map(([, id]) => id ?? '');
    assert.ok(shown.length >= 6, `${stdout}${stderr}`);
    const ours = installedBoots(pathsUnder(root)).map(({ id }) => id);
    const known = shown.map((id) => id.replace(/\+\d+(?:-\d+)?/, '')).filter((id) => ours.includes(id));
    assert.deepEqual(
      ours.filter((id) => known.includes(id)),
      known,
    );
    assert.ok(ours.includes('u.efi'));
    assert.ok(!ours.includes('gone.conf'));
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
});
