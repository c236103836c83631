/** What the pages of docs/services install, by `apt install` without what is only recommended. */
export const services = [
  'postgresql',
  'mariadb-server',
  'valkey-server',
  'nginx-light',
  'caddy',
  'wireguard-tools',
  'podman',
  'restic',
  'wpasupplicant',
  'prometheus',
  'docker-registry',
  'git',
  'python3',
  // What runs the container, what is in it, and what wpa_supplicant logs in to.
  'crun',
  'netavark',
  'busybox-static',
  'hostapd',
];
