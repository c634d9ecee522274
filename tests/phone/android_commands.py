"""Android's own commands on a test phone: scripts of its shell, with the output and exit codes of AOSP's.

Their state is in a folder of the phone (STATE), so that tests can read what was set. Sources in frameworks/base:
PowerManagerShellCommand, ThermalManagerService.ThermalShellCommand, BatteryService.onShellCommand,
SettingsService, cmds/svc PowerCommand, frameworks/native/cmds/cmd (20: no such service), BasicShellCommandHandler
(unknown command: said on stdout, -1).
"""

from __future__ import annotations

import shlex

from android_dumps import ANDROID_11, ANDROID_13, deviceidle_text

# Not a place that Android has: nothing but these scripts looks there.
STATE = "/dev/.phone"
NO_POWER_HAL = "no_power_hal"
FIXED_PERFORMANCE = "fixed_performance"
CALLS = "calls"

_HEAD = f"#!/system/bin/sh\nS={STATE}\n"
_CALLED = 'print -r -- "${0##*/}${*:+ }$*" >>$S/calls\n'

_GETPROP = """\
if [ $# -eq 0 ]; then
  while IFS='=' read -r k v; do print -r -- "[$k]: [$v]"; done <$S/props
  exit 0
fi
while IFS='=' read -r k v; do
  if [ "$k" = "$1" ]; then print -r -- "$v"; exit 0; fi
done <$S/props
print -r -- "$2"
"""

_DUMPSYS = """\
[ "$1" = -t ] && shift 2
case "$1" in
battery)
  case "$2" in
  ''|-a)
    while IFS= read -r line; do
      if [ -e $S/battery_stopped ]; then case "$line" in
        *powered:*) [ "$(<$S/battery_stopped)" = unplug ] && line="${line%:*}: false";;
      esac; fi
      print -r -- "$line"
      case "$line" in
        Current*) [ -e $S/battery_stopped ] && print "  (UPDATES STOPPED -- use 'reset' to restart)";;
      esac
    done <$S/battery;;
  unplug|set) print -r -- "$2" >$S/battery_stopped;;
  reset) rm -f $S/battery_stopped;;
  *) print -r -- "Unknown command: $2"; exit 255;;
  esac;;
thermalservice)
  if [ -e $S/thermal_override ]; then
    while IFS= read -r line; do case "$line" in
      IsStatusOverride:*) print "IsStatusOverride: true";;
      'Thermal Status:'*) print -r -- "Thermal Status: $(<$S/thermal_override)";;
      *) print -r -- "$line";;
    esac; done <$S/thermal
  else cat $S/thermal; fi;;
power)
  set -- "$(<$S/plugged)" "$(<$S/settings/global/stay_on_while_plugged_in)"
  case "$1" in ac) plug=1;; usb) plug=2;; wireless) plug=4;; dock) plug=8;; *) plug=0;; esac
  stay=false
  [ $(( ${2:-0} & plug )) -ne 0 ] && stay=true
  while IFS= read -r line; do
    case "$line" in
      *=\\{wakefulness\\}) line="${line%=*}=$(<$S/wakefulness)";;
      *=\\{stay_on\\}) line="${line%=*}=$stay";;
      *=\\{setting\\}) line="${line%=*}=${2:-0}";;
    esac
    print -r -- "$line"
  done <$S/power;;
deviceidle)
  case "$2" in
  '') cat $S/deviceidle;;
  disable) print "Deep idle mode disabled"; print "Light idle mode disabled"; print off >$S/deviceidle_mode;;
  enable) print "Deep idle mode enabled"; print "Light idle mode enabled"; print on >$S/deviceidle_mode;;
  get) print ACTIVE;;
  *) print -r -- "Unknown command: $2"; exit 255;;
  esac;;
*) print -r -- "Can't find service: $1";;
esac
"""

_CMD = """\
unknown() { print -r -- "Unknown command: $1"; exit 255; }
case "$1" in
power)
  case "$2" in
  set-fixed-performance-mode-enabled)
    [ {sdk} -lt 30 ] && unknown "$2"
    if [ -e $S/no_power_hal ]; then
      print -u2 "Failed to set FIXED_PERFORMANCE mode"
      print -u2 "This is likely because Power HAL AIDL is not implemented on this device"
      exit 255
    fi
    case "$3" in
    [tT][rR][uU][eE]) print true >$S/fixed_performance;;
    '') print -u2 "Error: Argument expected after \\"$2\\""; exit 255;;
    *) print false >$S/fixed_performance;;
    esac;;
  set-mode|set-adaptive-power-saver-enabled) ;;
  *) unknown "$2";;
  esac;;
thermalservice)
  case "$2" in
  override-status) print -r -- "$3" >$S/thermal_override;;
  reset) rm -f $S/thermal_override;;
  *) unknown "$2";;
  esac;;
settings) shift; exec settings "$@";;
battery) shift; exec dumpsys battery "$@";;
deviceidle) shift; exec dumpsys deviceidle "$@";;
*) print -u2 -r -- "cmd: Can't find service: $1"; exit 20;;
esac
"""

_SETTINGS = """\
f=$S/settings/$2/$3
case "$2" in system|secure|global) ;; *)
  case "$1" in get|put|delete|list) print -u2 -r -- "Invalid namespace '$2'"; exit 255;; esac;;
esac
case "$1" in
get) if [ -e "$f" ]; then cat "$f"; else print null; fi;;
put)
  if [ $# -lt 4 ]; then print -u2 "Bad arguments"; exit 255; fi
  print -r -- "$4" >"$f";;
delete) if [ -e "$f" ]; then rm -f "$f"; print "Deleted 1 rows"; else print "Deleted 0 rows"; fi;;
list) for f in $S/settings/$2/*; do [ -e "$f" ] && print -r -- "${f##*/}=$(<$f)"; done;;
*) print -u2 -r -- "Invalid command: $1"; exit 255;;
esac
exit 0
"""

_SVC = """\
case "$1 $2" in
'power stayon')
  case "$3" in
  true) v={any_plug};; false) v=0;; ac) v=1;; usb) v=2;; wireless) v=4;;{dock}
  *)
    print -u2 "Control the power manager"
    print -u2 "usage: svc power stayon [true|false|usb|ac|wireless{or_dock}]"
    exit 0;;
  esac
  [ $v -ne 0 ] && print Awake >$S/wakefulness
  print $v >$S/settings/global/stay_on_while_plugged_in;;
'power reboot'|'power shutdown') ;;
*) print -u2 "Available commands:"; print -u2 "    help     Show information about the subcommands"; exit 0;;
esac
"""

_INPUT = """\
case "$1 $2" in
'keyevent KEYCODE_WAKEUP'|'keyevent WAKEUP'|'keyevent 224') print Awake >$S/wakefulness;;
'keyevent KEYCODE_SLEEP'|'keyevent SLEEP'|'keyevent 223') print Asleep >$S/wakefulness;;
'keyevent KEYCODE_POWER'|'keyevent POWER'|'keyevent 26')
  if [ "$(<$S/wakefulness)" = Awake ]; then print Asleep >$S/wakefulness; else print Awake >$S/wakefulness; fi;;
'keyevent '*|'tap '*|'swipe '*|'text '*) ;;
*) print -u2 -r -- "Error: Unknown command: $1"; exit 255;;
esac
"""

# -s TAG:I shows only lines of that tag; `*:S` and buffers (-b) change nothing here.
_LOGCAT = """\
tag=; follow=1
while [ $# -gt 0 ]; do
  case "$1" in
  -c) : >$S/logcat; exit 0;;
  -d) follow=;;
  -s) tag=${2%%:*}; shift;;
  -v|-b|-t|-T) shift;;
  *:S) ;;
  *:*) tag=${1%%:*};;
  esac
  shift
done
show() { while IFS= read -r line; do case "$line" in *" ${tag:-}"*|---*) print -r -- "$line";; esac; done; }
if [ -n "$follow" ]; then tail -n +1 -f $S/logcat | show; else show <$S/logcat; fi
"""

_UNAME = """\
line=$(toybox uname "$@") || exit
release=$(toybox uname -r)
machine=$(toybox uname -m)
kernel={kernel}
line=${line//"$release"/$kernel}
print -r -- "${line//"$machine"/{machine}}"
"""


def scripts(sdk: int, *, kernel: str = "", machine: str = "") -> dict[str, str]:
    """Command → script, for an Android version. Every call but getprop's is noted in STATE/calls, in order.

    kernel, machine: what uname shall say of the release and the processor; "": toybox's own words are right.
    """
    any_plug, dock, or_dock = (15, " dock) v=8;;", "|dock") if sdk >= ANDROID_13 else (7, "", "")
    bodies = {
        "dumpsys": _DUMPSYS,
        "cmd": _CMD.replace("{sdk}", str(sdk)),
        "settings": _SETTINGS,
        "svc": _SVC.replace("{any_plug}", str(any_plug)).replace("{dock}", dock).replace("{or_dock}", or_dock),
        "input": _INPUT,
        "logcat": _LOGCAT,
    }
    made = {name: _HEAD + _CALLED + body for name, body in bodies.items()}
    made["getprop"] = _HEAD + _GETPROP
    if machine:
        made["uname"] = _HEAD + _UNAME.replace("{kernel}", shlex.quote(kernel)).replace("{machine}", machine)
    return made


def state_files(sdk: int, properties: dict[str, str]) -> dict[str, str]:
    """name in STATE → text, on a phone that has just been set up."""
    return {
        "props": "".join(f"{key}={value}\n" for key, value in properties.items()),
        "deviceidle": deviceidle_text(),
        "settings/global/stay_on_while_plugged_in": "0\n",
        "settings/global/device_name": "phone\n",
        "settings/system/screen_off_timeout": "60000\n",
        "settings/secure/android_id": "3f2a9c51b7d04e68\n",
        "wakefulness": "Awake\n",
        "logcat": "--------- beginning of main\n",
        CALLS: "",
        **boot_files(sdk),
    }


def boot_files(sdk: int) -> dict[str, str]:
    """What a boot sets anew; settings stay."""
    modes = {"deviceidle_mode": "on\n"}
    if sdk >= ANDROID_11:
        modes[FIXED_PERFORMANCE] = "false\n"
    return modes


GONE_AT_BOOT = ("battery_stopped", "thermal_override")
