"""What runs ON the machine: pytest tests and ctypes. No dependency but pytest and the standard library."""
