import type { Service } from './service.ts';

/** The git server is the same machine by another name. */
export const sshDeployKey: Service = {
  name: 'ssh-deploy-key',
  units: [],
  secret: 'deploy-key',
  async prepare(machine) {
    await machine.shell(
      [
        'echo "127.0.0.1 git.example.org" >> /etc/hosts',
        'useradd --system --home-dir /var/lib/deploy deploy',
        'useradd --system --home-dir /srv/git --create-home --shell /usr/bin/git-shell git',
        'mkdir /srv/git/.ssh',
        'echo "git.example.org $(cat /etc/ssh/ssh_host_ed25519_key.pub)" > /etc/ssh/ssh_known_hosts',
        'ssh-keygen -q -t ed25519 -N "" -f /root/.ssh/id_ed25519',
        'cp /root/.ssh/id_ed25519.pub /root/.ssh/authorized_keys',
        'git init -q --bare --initial-branch=main /srv/site.git',
        'git init -q --initial-branch=main /run/site',
        'cd /run/site',
        'git -c user.name=a -c user.email=a@example.org commit -q --allow-empty -m "Open the site"',
        'git push -q /srv/site.git main',
        'chown -R git: /srv/site.git',
        'systemctl start ssh.service',
      ].join('\n'),
    );
  },
  async accepts(machine, value) {
    await machine.write('/run/deploy-key', value, 0o600);
    const ssh = 'ssh -i /run/deploy-key -o IdentitiesOnly=yes -o BatchMode=yes -F none';
    const command = ['git', 'ls-remote', 'ssh://git@git.example.org/srv/site.git'];
    const { status, stdout } = await machine.run(['env', `GIT_SSH_COMMAND=${ssh}`, ...command], { check: false });
    return status === 0 && stdout.includes('refs/heads/main');
  },
};
