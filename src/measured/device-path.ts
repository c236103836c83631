/** UEFI device paths (UEFI specification, chapter 10), read for where an image came from. */
import { Reader, utf16 } from './reader.ts';

/** Where an image was loaded from. */
export interface DevicePath {
  /** The file on a disk, such as `\EFI\BOOT\BOOTX64.EFI`; undefined for an image from elsewhere. */
  readonly file: string | undefined;
  /** GUIDs of vendors' own nodes, such as that of systemd-stub for the kernel that it holds. */
  readonly vendors: readonly string[];
  /** Files of the firmware's own volumes, by GUID. */
  readonly firmwareFiles: readonly string[];
  /** Whether it comes from an expansion card. */
  readonly isOnCard: boolean;
}

const media = { type: 0x04, file: 0x04, vendor: 0x03, firmwareFile: 0x06, offsetRange: 0x08 } as const;
const hardware = { type: 0x01, vendor: 0x04 } as const;
const messaging = { type: 0x03, vendor: 0x0a } as const;
const end = 0x7f;

/** Parses a path, ignoring nodes that say nothing about the file. A path that is cut off ends where it is cut. */
export function parseDevicePath(bytes: Uint8Array): DevicePath {
  const reader = new Reader(bytes);
  const files: string[] = [];
  const vendors: string[] = [];
  const firmwareFiles: string[] = [];
  let isOnCard = false;
  while (reader.left >= 4) {
    const [type, subtype, length] = [reader.u8(), reader.u8(), reader.u16()];
    if (type === end || length < 4 || length - 4 > reader.left) break;
    const node = new Reader(reader.bytes(length - 4));
    const isVendor =
      (type === media.type && subtype === media.vendor) ||
      (type === hardware.type && subtype === hardware.vendor) ||
      (type === messaging.type && subtype === messaging.vendor);
    if (type === media.type && subtype === media.file) files.push(utf16(node.rest()));
    else if (type === media.type && subtype === media.firmwareFile && node.left >= 16) firmwareFiles.push(node.guid());
    else if (type === media.type && subtype === media.offsetRange) isOnCard = true;
    else if (isVendor && node.left >= 16) vendors.push(node.guid());
  }
  // A path may be split over several nodes, with or without the separator between them.
  const file = files.length === 0 ? undefined : files.join('\\').replaceAll(/\\{2,}/g, '\\');
  return { file, vendors, firmwareFiles, isOnCard };
}
