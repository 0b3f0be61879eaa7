"""User space: releases of XRT and amd/xdna-driver, what they pin, and which kernels they fit."""
