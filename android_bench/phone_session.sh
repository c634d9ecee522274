#!/system/bin/sh
# The phone's side of a session, for Android's own shell and commands (mksh, toybox) as of Android 10.
#
#   sh phone_session.sh watch FOLDER GRACE_S   until FOLDER is gone; cleans when the host is silent for GRACE_S seconds
#   sh phone_session.sh clean FOLDER           end what runs there, undo the settings, remove FOLDER, free the lock
#
# FOLDER/heartbeat: the phone's uptime when the host was last heard. FOLDER/undo/*.sh: how to undo each setting, in the
# order in which they were made. FOLDER/watchdog: the watching process. Nothing here needs the host.

place=/data/local/tmp
action=$1
folder=$2
grace_s=$3

case ${folder#"$place"/pocketforge-} in
'' | *[!0-9a-f]*)
    echo "not a folder of ours: $folder" >&2
    exit 64
    ;;
esac

# Uptime, not the time of day: that may jump. Only builtins: the watchdog must not disturb what is measured.
uptime_s() {
    read -r uptime idle </proc/uptime
    now_s=${uptime%%.*}
}

end_processes() {
    # By their current folder: that holds whatever became of the parent that we knew.
    for attempt in 1 2 3 4 5; do
        found=
        for pid in $(pids_in_folder); do
            kill -9 "$pid" 2>/dev/null && found=yes
        done
        [ "$found" ] || return 0
    done
}

pids_in_folder() {
    ls -ld /proc/[0-9]*/cwd 2>/dev/null | while read -r line; do
        case $line in
        *"/cwd -> $folder" | *"/cwd -> $folder/"* | *"/cwd -> $folder (deleted)")
            pid=${line##*/proc/}
            echo "${pid%%/*}"
            ;;
        esac
    done
}

end_watchdog() {
    watchdog=
    [ -f "$folder/watchdog" ] && read -r watchdog <"$folder/watchdog"
    case $watchdog in '' | *[!0-9]* | "$$") return 0 ;; esac
    # The number may be another process's by now. It leads a process group of its own: its `sleep` goes with it.
    case $(cat "/proc/$watchdog/cmdline" 2>/dev/null) in
    *"$folder"*) kill -9 -- "-$watchdog" 2>/dev/null || kill -9 "$watchdog" ;;
    esac
}

undo_settings() {
    latest_first=
    for undo in "$folder"/undo/*.sh; do
        [ -f "$undo" ] && latest_first="$undo $latest_first"
    done
    for undo in $latest_first; do
        if sh "$undo" </dev/null >/dev/null 2>&1; then rm -f "$undo"; else echo "could not undo: $(cat "$undo")"; fi
    done
}

free_lock() {
    holder=
    [ -f "$place/pocketforge.lock/holder" ] && read -r holder <"$place/pocketforge.lock/holder"
    [ "$holder" != "${folder##*/}" ] || rm -rf "$place/pocketforge.lock"
}

clean() {
    cd / || exit 1
    end_watchdog
    end_processes
    undo_settings
    rm -rf "$folder"
    free_lock
    [ ! -e "$folder" ]
}

watch() {
    cd / || exit 1
    trap '' HUP INT
    echo $$ >"$folder/watchdog.draft" && mv "$folder/watchdog.draft" "$folder/watchdog"
    pause_s=$((grace_s / 10))
    [ "$pause_s" -ge 1 ] || pause_s=1
    [ "$pause_s" -le 30 ] || pause_s=30
    while sleep "$pause_s"; do
        [ -d "$folder" ] || exit 0
        heard_s=
        read -r heard_s <"$folder/heartbeat"
        # Being written just now: it has just been heard.
        case $heard_s in '' | *[!0-9]*) continue ;; esac
        uptime_s
        [ $((now_s - heard_s)) -le "$grace_s" ] || break
    done
    clean
}

case $action in
watch) watch ;;
clean) clean ;;
*)
    echo "watch or clean, not: $action" >&2
    exit 64
    ;;
esac
