"""Programs that use the NPU as people do, run on a machine, their answers turned into results."""
