"""CVE records of the kernel: read, tied to changes by commit ids, and held against what branches carry."""
