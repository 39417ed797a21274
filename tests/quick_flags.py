"""Print flags that compile tests quickly, for XLA_FLAGS: no optimisation, and XLA's older emitters where there are any.

An unknown flag ends the process, so that flags go with the version: jaxlib 0.12 has no other emitters left.
"""

from importlib.metadata import version

FLAGS = [
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
]

if tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 12):
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")

print(*FLAGS)
