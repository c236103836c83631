# Units that can't have secrets, with the reason. The same list as the program's src/manifest/units.ts.
{
  # Units that the broker itself waits for.
  beforeTheBroker = {
    "systemd-sysusers.service" = "it makes the broker's user";
    "systemd-journald.service" = "the broker logs to it";
    "systemd-udevd.service" = "it makes the TPM's device node";
    "systemd-udev-trigger.service" = "it makes the TPM's device node";
    "systemd-remount-fs.service" = "it makes the broker's files readable";
    "systemd-fsck-root.service" = "it checks the broker's file system";
    "systemd-fsck@.service" = "it checks the broker's file system";
  };

  # Those of auxcred itself.
  own = {
    "auxcred.service" = "it is the broker";
    "auxcred-host-secret.service" = "it makes the key that the broker answers with";
    "auxcred-provision.service" = "it provisions the broker";
    "auxcred-files.service" = "it writes the files";
    "auxcred-user-files.service" = "it writes the files";
  };
}
