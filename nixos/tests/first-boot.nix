# A machine without a seed: units with secrets fail. Sealed to the host key, they start, now and at the next boot.
{
  name = "auxcred-first-boot";

  nodes.machine =
    { config, ... }:
    {
      imports = [ ../module.nix ];
      services.openssh.enable = true;
      auxcred = {
        enable = true;
        secrets.db-password.units = [ "web" ];
        secrets.root-password.kind = "password";
        secrets.root-hash = {
          kind = "crypt";
          of = "root-password";
          delivery = "file";
          owner = "nobody";
        };
        templates.web-env = {
          env.DATABASE_URL = "postgres://web:${config.auxcred.placeholder.db-password}@db/web";
          units = [ "web" ];
        };
      };
      systemd.services.web = {
        wantedBy = [ "multi-user.target" ];
        auxcred.token.kind = "hex";
        serviceConfig = {
          Type = "oneshot";
          RemainAfterExit = true;
        };
        script = ''
          cat ${config.auxcred.secrets.db-password.path} > /run/db-password
          cat "$CREDENTIALS_DIRECTORY/token" > /run/token
          cat "$CREDENTIALS_DIRECTORY/web-env" > /run/web-env
        '';
      };
    };

  testScript = ''
    machine.wait_for_unit("sshd.service")
    machine.fail("systemctl is-active web.service")

    machine.succeed("auxcred seal --with-key=host --no-recovery")
    machine.succeed("systemctl restart auxcred-provision.service web.service")
    machine.succeed("test $(cat /run/db-password) = $(auxcred get db-password)")
    machine.succeed("test $(cat /run/token) = $(auxcred get web/token)")
    machine.succeed("grep -q DATABASE_URL= /run/web-env")

    machine.shutdown()
    machine.start()
    machine.wait_for_unit("web.service")
    machine.succeed("test $(cat /run/db-password) = $(auxcred get db-password)")
    machine.succeed("test $(stat -c %U /run/auxcred/files/root-hash) = nobody")
  '';
}
