#!/usr/bin/env bash
# A SLURM of one node in a folder of its own: no systemd, no control groups, no munge, no database; ends with `down`.
#   tests/slurm.sh up FOLDER      prints the path of slurm.conf, for SLURM_CONF
#   tests/slurm.sh down FOLDER
# Needs `apt-get install --no-install-recommends slurm-wlm`. SLURM_CPUS sets how many cores the node claims to have.
set -euo pipefail

folder=$(realpath -m "$2")
export SLURM_CONF="$folder/slurm.conf"

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

configure() {
  local host user memory
  host=$(hostname -s)
  user=$(id -un)
  memory=$(($(awk '/^MemTotal/ {print $2}' /proc/meminfo) / 1024 - 256))
  mkdir -p "$folder"/{state,spool}
  cat > "$SLURM_CONF" << EOF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/none
CredType=cred/none
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
MaxArraySize=${SLURM_ARRAY_SIZE:-1001}
MinJobAge=600
KillWait=2
ReturnToService=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=${SLURM_CPUS:-$(nproc)} RealMemory=$memory State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
EOF
}

case $1 in
  up)
    configure
    slurmctld -c
    slurmd -N "$(hostname -s)"
    for _ in $(seq 60); do
      if [ "$(sinfo --noheader --format %t 2> /dev/null)" = idle ]; then
        echo "$SLURM_CONF"
        exit
      fi
      sleep 0.5
    done
    echo "tests/slurm.sh: the node did not become idle; see $folder/slurm*.log" >&2
    exit 1 ;;
  down)
    for daemon in slurmd slurmctld; do
      [ ! -f "$folder/$daemon.pid" ] || kill "$(cat "$folder/$daemon.pid")" 2> /dev/null || true
    done ;;
esac
