# Whether the machine has come up as far as it will.
if [ ! -d /run/systemd/system ]; then echo ready; exit; fi
state=$(systemctl is-system-running 2>/dev/null)
case $state in
  running | degraded | maintenance) echo ready ;;
  stopping) echo "wait it is still going down" ;;
  *) echo "wait systemd says $state" ;;
esac
