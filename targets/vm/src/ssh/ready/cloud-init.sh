# Whether cloud-init, where it is at work at all, is done. A recoverable error leaves a machine that can be worked on.
run=/run/cloud-init
if [ ! -e $run/enabled ] && [ ! -e $run/status.json ]; then echo ready; exit; fi
if [ -e $run/disabled ]; then echo ready; exit; fi
if [ ! -e $run/result.json ]; then
  stage=$(sed -n 's/.*"stage": *"\([a-z-]*\)".*/\1/p' $run/status.json 2>/dev/null)
  echo "wait stage ${stage:-unknown}"
  exit
fi
errors=$(tr -d '\n' <$run/result.json | sed -n 's/.*"errors": *\[\([^]]*\)\].*/\1/p' | tr -s ' ')
case $errors in
  '' | ' ') echo ready ;;
  *) echo "broken $errors" ;;
esac
