# Part of the scripts that run before a package is unpacked: keeps an agent from being put in the place of a
# later one whose state it could not read. That one is not disturbed, as nothing was done yet.
#
# SQLite keeps the version in octets 60 to 63 of the file, the first of them the highest.
refuse_later_state() {
    state=/var/lib/evenkeel/evenkeel.db
    [ -f "$state" ] || return 0
    found=$(od -An -tu1 -j60 -N4 "$state" | awk 'NF == 4 { print $1 * 16777216 + $2 * 65536 + $3 * 256 + $4 }')
    [ "${found:-0}" -gt @STATE_VERSION@ ] || return 0
    echo "evenkeel: $state has version $found, and evenkeel @VERSION@ knows none above @STATE_VERSION@." >&2
    echo "evenkeel: The agent that is installed stays. To go back all the same, lose its memory and its journal:" >&2
    echo "evenkeel: stop it, move /var/lib/evenkeel away (or put a backup of that time there), and try again." >&2
    return 1
}
