#!/usr/bin/env bash
# Make sure the system tools are there. usage: setup/tools.sh demo|test
# Installs missing Debian packages as root or by passwordless sudo; otherwise says in one line what to install.
# Never fails the build for a tool that only some tests need: those tests say themselves what they left out.
set -u
purpose=${1:?demo or test}

declare -A package=([git]=git [ssh]=openssh-client [python3]=python3)
if [ "$purpose" = test ]; then
  package+=([sshd]=openssh-server)
  package+=([public-inbox-httpd]=public-inbox) # the mail sources' tests ask a real server
fi

missing=()
# Debian keeps the PostgreSQL server's programs out of PATH.
if [ "$purpose" = test ] && ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 && ! command -v initdb >/dev/null; then
  missing+=(postgresql)
fi
for command in "${!package[@]}"; do
  PATH="$PATH:/usr/sbin:/sbin" command -v "$command" >/dev/null 2>&1 || missing+=("${package[$command]}")
done
# Debian splits venv from python3.
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
[ ${#missing[@]} -eq 0 ] && exit 0

become=()
if [ "$(id -u)" != 0 ]; then
  sudo -n true 2>/dev/null && become=(sudo -n)
fi
if command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || [ ${#become[@]} -gt 0 ]; }; then
  echo "installing: ${missing[*]}" >&2
  "${become[@]}" apt-get update -qq >&2 &&
    DEBIAN_FRONTEND=noninteractive "${become[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null && exit 0
fi
echo "please install: ${missing[*]}  (Debian: sudo apt-get install ${missing[*]})" >&2
# Without git, ssh or a venv nothing runs; without the servers only some tests are left out.
for name in "${missing[@]}"; do
  case $name in openssh-server | public-inbox | postgresql) ;; *) exit 1 ;; esac
done
exit 0
