"""Names of variables that a language's runtime acts on; no parameter may have such a name.

The names of parameters may come from untrusted users, through `dag_run.conf`. An assignment to most names only stores a
value. An assignment to one of these names runs the value, loads the file that it names, or breaks the code that
follows. A name that only hides a function of the language, such as ``input`` or ``id`` in Python, is allowed.
"""

from __future__ import annotations

import re
import unicodedata

# Python: names that the interpreter looks up (`__builtins__`, `__import__`, `__name__`), and the variables and the
# history of IPython.
_PYTHON = re.compile(r"__.*__|_{1,3}|_[0-9]+|_i+|_i[0-9]+|_[iod]h|_exit_code|In|Out|get_ipython|exit|quit")

_NAMES = {
    # bash: the variables of bash(1), "Shell Variables", and of environ(7), ld.so(8) and the programs that scripts
    # start. An assignment to a variable of the kernel's environment changes the environment of all that it starts.
    "bash": """
        CDPATH CHILD_MAX COLUMNS COPROC DIRSTACK EMACS ENV EPOCHREALTIME EPOCHSECONDS EUID EXECIGNORE FCEDIT FIGNORE
        FUNCNAME FUNCNEST GLOBIGNORE GLOBSORT GROUPS HOME HOSTFILE HOSTNAME HOSTTYPE IFS IGNOREEOF INPUTRC INSIDE_EMACS
        LINENO LINES MACHTYPE MAIL MAILCHECK MAILPATH MAPFILE OLDPWD OPTARG OPTERR OPTIND OSTYPE PATH PIPESTATUS
        POSIXLY_CORRECT PPID PROMPT_COMMAND PROMPT_DIRTRIM PS0 PS1 PS2 PS3 PS4 PWD RANDOM REPLY SECONDS SHELL SHELLOPTS
        SHLVL SRANDOM TIMEFORMAT TMOUT UID auto_resume histchars _
        BROWSER DISPLAY EDITOR LANG LANGUAGE LOGNAME LS_COLORS MANPAGER MANPATH NLSPATH PAGER TEMP TERM TMP TMPDIR TZ
        TZDIR USER VISUAL
        ALL_PROXY FTP_PROXY HTTPS_PROXY HTTP_PROXY NO_PROXY all_proxy ftp_proxy https_proxy http_proxy no_proxy
        CLASSPATH GCONV_PATH GETCONF_DIR HOSTALIASES LOCALDOMAIN LOCPATH NIS_PATH RESOLV_HOST_CONF RES_OPTIONS
        REQUESTS_CA_BUNDLE SSLKEYLOGFILE VIRTUAL_ENV
        GOOGLE_APPLICATION_CREDENTIALS GOOGLE_CLOUD_UNIVERSE_DOMAIN STORAGE_EMULATOR_HOST SECRET_MANAGER_EMULATOR_HOST
        """,
    # Julia and Scala: the modules and packages through which other names are found, and names of the kernel.
    "julia": "ARGS Base C_NULL Core DEPOT_PATH ENV IJulia In LOAD_PATH Main Out PROGRAM_FILE VERSION ans eval include",
    "scala": "Predef exit interp java javax kernel repl scala sys",
}
_FAMILIES = {
    "bash": """
        AWS_ BASH CLOUDSDK_ COMP_ CONDA_ CURL_ DOCKER_ DYLD_ GCONV_ GIO_ GIT_ GLIBC_ GNUPG GOOGLE_API_ GPG_ GST_ GTK_
        HIST IPYTHON JAVA_ JDK_ JULIA_ JUPYTER KRB5 KUBE LC_ LD_ LESS MAKE MALLOC_ NODE_ NPM_ OPENSSL_ PERL PIP_ PYTHON
        QT_ READLINE_ RUBY RUSTC_ R_ SSH_ SSL_CERT_ SUDO_ SYSTEMD_ TERMINFO UV_ XDG_ _JAVA npm_
        """,
}
_ACTED_ON = {language: frozenset(names.split()) for language, names in _NAMES.items()}
_PREFIXES = {language: tuple(prefixes.split()) for language, prefixes in _FAMILIES.items()}


def is_acted_on(language: str, name: str) -> bool:
    """Return whether a language's runtime acts on a variable of this name."""
    if language == "python":
        # Python's parser normalizes names, so other characters can spell the same variable.
        return _PYTHON.fullmatch(unicodedata.normalize("NFKC", name)) is not None
    return name in _ACTED_ON.get(language, ()) or name.startswith(_PREFIXES.get(language, ()))
