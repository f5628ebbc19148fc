# Sourced by the shell scripts before anything else: -h or --help prints the comment at the
# head of the script that was run, and ends.
case ${1:-} in
  -h | --help)
    sed -n '/^#!/d; /^#/!q; s/^# \{0,1\}//p' "${BASH_SOURCE[-1]}"
    exit 0
    ;;
esac
