#!/bin/bash
# boot.sh TREE NAME: boots TREE with its own systemd as PID 1, prints that process's id once it listens, and powers it off
# when standard input ends. TREE stays as it is (changes go to memory); no network and no device of this machine. Leaves
# no mount, control group or process. Runs in a mount namespace of its own: unshare --mount --propagation private boot.sh
set -euo pipefail
TREE=$1
NAME=$2
GROUP=/sys/fs/cgroup/$NAME
MACHINE=

end() {
  # SIGRTMIN+4 starts poweroff.target.
  [ -z "$MACHINE" ] || kill -s RTMIN+4 "$MACHINE" 2> /dev/null || true
  for _ in {1..200}; do kill -0 "$HOLDER" 2> /dev/null || break; sleep 0.1; done
  [ -z "$MACHINE" ] || kill -s KILL "$MACHINE" 2> /dev/null || true
  kill -s KILL "$HOLDER" 2> /dev/null || true
  wait "$HOLDER" || true
  echo $$ > /sys/fs/cgroup/cgroup.procs
  # What was killed is gone a moment later.
  for _ in {1..50}; do
    find "$GROUP" -depth -type d -exec rmdir {} \; 2> /dev/null || true
    [ -e "$GROUP" ] || return 0
    sleep 0.1
  done
  return 1
}

# The board's systemd filters devices and addresses by BPF programs, as on a real machine; without CAP_BPF it would
# silently filter nothing. The other rights and calls are what the unit is to refuse, not the container.
# systemd-nspawn wants a /run of memory and control groups of version 2, and nobody else sees these two.
mount -t tmpfs tmpfs /run
umount --recursive /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir "$GROUP"
echo $$ > "$GROUP/cgroup.procs"
systemd-nspawn --quiet --boot --directory="$TREE" --volatile=overlay --keep-unit --register=no --machine="$NAME" \
  --hostname=board --private-network --capability=CAP_BPF,CAP_SYSLOG,CAP_SYS_MODULE \
  --system-call-filter="bpf @clock @keyring" --resolv-conf=off --timezone=off --console=pipe < /dev/null >&2 &
HOLDER=$!
trap end EXIT

for _ in {1..300}; do
  for CHILD in $(cat "/proc/$HOLDER/task/$HOLDER/children" 2> /dev/null); do
    ROOT=/proc/$CHILD/root
    [ ! -S "$ROOT/run/systemd/private" ] || MACHINE=$CHILD
  done
  [ -z "$MACHINE" ] || break
  sleep 0.1
done
echo "${MACHINE:?systemd did not start}"
cat > /dev/null
