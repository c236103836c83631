# A switch restarts the units whose secret became another one, and no other; a switch that can't be served stops nothing.
{
  name = "auxcred-switch";

  nodes.machine =
    { lib, ... }:
    let
      service = {
        wantedBy = [ "multi-user.target" ];
        serviceConfig.ExecStart = "/run/current-system/sw/bin/sleep infinity";
      };
    in
    {
      imports = [ ../module.nix ];
      services.openssh.enable = true;
      auxcred = {
        enable = true;
        secrets.first.units = [ "web" ];
        secrets.second.units = [ "other" ];
      };
      systemd.services = {
        web = service;
        other = service;
      };
      specialisation.next.configuration.auxcred.secrets.first.generation = 2;
      specialisation.missing.configuration.auxcred.secrets.token = {
        kind = "fixed";
        units = [ "web" ];
      };
      system.switch.enable = lib.mkForce true;
    };

  testScript = ''
    switch = "/run/booted-system/specialisation/{}/bin/switch-to-configuration {}"
    identifier = "systemctl show --value -p InvocationID {}"

    machine.wait_for_unit("sshd.service")
    machine.succeed("auxcred seal --with-key=host --no-recovery")
    machine.succeed("systemctl restart auxcred-provision.service web.service other.service")
    before = [machine.succeed(identifier.format(unit)) for unit in ("web", "other")]
    secret = machine.succeed("auxcred get first")

    foretold = machine.succeed(switch.format("next", "dry-activate") + " 2>&1")
    assert "web.service" in foretold and "other.service" not in foretold, foretold

    machine.fail(switch.format("missing", "test"))
    assert [machine.succeed(identifier.format(unit)) for unit in ("web", "other")] == before

    machine.succeed(switch.format("next", "test"))
    after = [machine.succeed(identifier.format(unit)) for unit in ("web", "other")]
    assert after[0] != before[0] and after[1] == before[1]
    assert machine.succeed("auxcred get first") != secret

    machine.succeed("/run/booted-system/bin/switch-to-configuration test")
    assert machine.succeed("auxcred get first") == secret
  '';
}
