/** The manifest, without the seed. */
import { counted } from '../../terminal/say.ts';
import { type Check, listed } from './check.ts';
import { auxcred } from './commands.ts';

export const manifest: Check = {
  name: 'manifest',
  why: 'units see the change only when it is applied',
  faults: (health) => {
    const { errors, refusals, state, dropIns } = health.declared;
    switch (state) {
      case 'invalid':
        if (errors === 0)
          return [
            {
              level: 'problem',
              message: `the manifest is refused: ${listed(refusals)}`,
              why: 'nothing of it becomes active, and no secret rotates',
              mend: [auxcred(health, 'check')],
            },
          ];
        return [
          {
            level: 'problem',
            message: `the manifest has ${counted(errors, 'error')}`,
            why:
              health.configuration === undefined
                ? 'the files with errors are not applied, and their units will not start after the next boot or daemon-reload'
                : 'nothing of it becomes active',
            mend: [auxcred(health, 'check')],
          },
        ];
      case 'never':
        return [
          {
            level: 'warning',
            message: 'the manifest was never applied',
            why: 'units get nothing from it until it is applied, or until the next boot',
            mend: [auxcred(health, 'apply')],
          },
        ];
      case 'upgraded':
        return [
          {
            level: 'warning',
            message: 'an older version of auxcred applied the manifest',
            why: 'each boot renders it again, and blocks its units if Node fails',
            mend: [auxcred(health, 'apply')],
          },
        ];
      case 'changed': {
        const changed = dropIns.map(({ unit, change }) => `${unit} ${change}`);
        return [
          {
            level: 'warning',
            message: `the manifest has changed since it was applied${changed.length === 0 ? '' : `: ${listed(changed)}`}`,
            mend: [auxcred(health, 'apply')],
          },
        ];
      }
      case 'applied':
      case 'rendered':
        return [];
    }
  },
  well: ({ declared }) =>
    declared.state === 'rendered'
      ? 'the configuration renders the manifest'
      : 'the manifest is the one that was applied',
};

export const unread: Check = {
  name: 'unread',
  why: 'what they declare is missing',
  faults: (health) => {
    const { unread: paths } = health.declared;
    if (paths.length === 0) return [];
    return [
      {
        level: 'note',
        message: `in the folders of the manifest, not read for their names: ${listed(paths)}`,
        mend: [auxcred(health, 'check')],
      },
    ];
  },
};

export const hooks: Check = {
  name: 'hooks',
  why: "the secret keeps its value, since its service can't be told a new one",
  faults: (health) => {
    const { missingHooks } = health.declared;
    if (missingHooks.length === 0) return [];
    return [
      {
        level: 'warning',
        message: listed(missingHooks.map(({ secret, problem }) => `the hook of ${secret} can't run: ${problem}`)),
        mend: [auxcred(health, 'check')],
      },
    ];
  },
};
