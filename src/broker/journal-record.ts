/** The journal records of releases and refusals, with fields for programs. They never contain a secret. */

import { generationOf, ingredients, kindOf, nameOf, periodOf, type Source } from '../derive/recipe.ts';
import type { Release } from '../snapshot/snapshot.ts';
import { userId } from '../system/files.ts';
import type { JournalFields } from '../system/journal.ts';
import type { CredentialRequest } from './request.ts';

/**
 * Constant ids, so that `journalctl -u 'auxcred*' MESSAGE_ID=...` finds all releases or refusals
 * (systemd.journal-fields(7)). Any user can log with these ids: see {@link brokerMatches}.
 */
export const messageIds = {
  released: 'f0a0c2a48c3f4b0f9a5a7d2a54a2f6f1',
  refused: '3a5f6c0be2ce4f3f8a1f8b3f5d1b9c57',
} as const;

/**
 * Matches of journalctl for what the broker itself logged: any user can log the same fields.
 * @param root - the system whose users the journal names; undefined if that is not known
 */
export function brokerMatches(root: string | undefined): string[] {
  const user = root === undefined ? undefined : userId(root, brokerUser);
  return ['_SYSTEMD_UNIT=auxcred.service', ...(user === undefined ? [] : [`_UID=${String(user)}`])];
}

/** The user that the broker runs as. */
const brokerUser = 'auxcred';

/** Names a secret for readers of the journal: `host/web1 password db-password`, `host/web1 template web-env`. */
const realmText = ({ recipe }: Release): string =>
  `${[...new Set(ingredients(recipe).map(({ scope }) => scope))].join('+')} ${kindOf(recipe)} ${nameOf(recipe)}`.trim();

/** A text about each secret in a release, in order. */
const each = ({ recipe }: Release, text: (source: Source) => string): string => ingredients(recipe).map(text).join('+');

/** Says which secret was released to which unit. */
export function releaseRecord({ unit, credential }: CredentialRequest, release: Release): JournalFields {
  return {
    MESSAGE: `released ${credential} to ${unit || 'anyone who may read it'}`,
    MESSAGE_ID: messageIds.released,
    PRIORITY: '6',
    AUXCRED_OUTCOME: 'released',
    AUXCRED_UNIT: unit,
    AUXCRED_CREDENTIAL: credential,
    AUXCRED_REALM: realmText(release),
    AUXCRED_PERIOD: each(release, periodOf),
    AUXCRED_GENERATION: each(release, (source) => String(generationOf(source))),
    AUXCRED_DELIVERY: release.delivery,
  };
}

/** Says which request was refused, and why. `request` is undefined if it was not understood. */
export function refusalRecord(request: CredentialRequest | undefined, reason: string): JournalFields {
  const what =
    request === undefined
      ? 'a connection'
      : `${request.credential || 'credentials'} for ${request.unit || 'anyone who may read it'}`;
  return {
    MESSAGE: `refused ${what}: ${reason}`,
    MESSAGE_ID: messageIds.refused,
    PRIORITY: '4',
    AUXCRED_OUTCOME: 'refused',
    AUXCRED_UNIT: request?.unit ?? '',
    AUXCRED_CREDENTIAL: request?.credential ?? '',
    AUXCRED_REASON: reason,
  };
}
