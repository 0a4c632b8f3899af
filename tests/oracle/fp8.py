"""Every FP8 byte as f32, by ml_dtypes: byte, E4M3 bits, E5M2 bits, in hexadecimal. Writes crates/zmlx/tests/data/fp8.txt.

python3 tests/oracle/fp8.py > crates/zmlx/tests/data/fp8.txt      (pip install numpy ml_dtypes)
"""
import ml_dtypes
import numpy as np

all_bytes = np.arange(256, dtype=np.uint8)
e4m3 = all_bytes.view(ml_dtypes.float8_e4m3fn).astype(np.float32).view(np.uint32)
e5m2 = all_bytes.view(ml_dtypes.float8_e5m2).astype(np.float32).view(np.uint32)
for byte, four, five in zip(all_bytes, e4m3, e5m2):
    print(f"{byte:02x} {four:08x} {five:08x}")
