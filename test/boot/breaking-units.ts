/** Units that do not start again while there is a file /run/break, and how each of them fails. */
export const breaking: Readonly<
  Record<string, { readonly unit?: string; readonly service: string; readonly reason: string }>
> = {
  'crash.service': {
    service: "ExecStart=/bin/sh -c 'test ! -e /run/break || exit 3; exec sleep infinity'",
    reason: 'failed: exit-code, status 3',
  },
  'pre.service': {
    service: "Type=exec\nExecStartPre=/bin/sh -c 'test ! -e /run/break || exit 4'\nExecStart=/bin/sleep infinity",
    reason: 'failed: exit-code, status 4',
  },
  'needs.service': {
    unit: 'Requires=pre.service\nAfter=pre.service',
    service: 'Type=exec\nExecStart=/bin/sleep infinity',
    reason: 'was stopped and did not start: a unit that it needs failed, or its start was cancelled',
  },
  'killed.service': {
    service: "Type=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'test ! -e /run/break || kill -9 $$$$'",
    reason: 'failed: signal, signal 9',
  },
  'late.service': {
    service: "Type=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'test ! -e /run/break || sleep 600'",
    reason: 'failed: timeout, signal 15',
  },
  // Type=simple counts as started before systemd has set up its credentials.
  'poor.service': {
    service: 'LoadCredential=more:/run/more\nExecStart=/bin/sleep infinity',
    reason: 'failed: exit-code, status 243: it did not get its secret',
  },
  'again.service': {
    service:
      'Type=exec\nRestart=always\nRestartSec=600\n' +
      "ExecStart=/bin/sh -c 'test ! -e /run/break || exit 5; exec sleep infinity'",
    reason: 'failed: exit-code, status 5; systemd tries again',
  },
  'fine.service': { unit: 'After=slow.service', service: 'ExecStart=/bin/sleep infinity', reason: '' },
  'slow.service': {
    service:
      'Type=oneshot\nRemainAfterExit=yes\nExecStartPre=+/usr/bin/env FAKED /usr/bin/auxcred provision\n' +
      'ExecStart=/bin/sleep 1',
    reason: '',
  },
};
