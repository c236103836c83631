#!/bin/bash
# Says which boot this is, then does what the test asks for: "ID BASE64(COMMAND)" a line, and back
# "ID STATUS BASE64(STDOUT) BASE64(STDERR)".
# The port can be open once at a time, so one descriptor reads and writes.
exec 3<> /dev/virtio-ports/agent || exit
echo "up $(< /proc/sys/kernel/random/boot_id)" >&3
while read -r -u 3 id command; do
  base64 -d <<< "$command" > /run/agent.command
  bash -eu /run/agent.command > /run/agent.output 2> /run/agent.errors < /dev/null 3>&-
  status=$?
  echo "$id $status $(base64 -w0 /run/agent.output) $(base64 -w0 /run/agent.errors)" >&3
done
