"""Programs that show one defect each: standard library only, on any machine with the driver."""
