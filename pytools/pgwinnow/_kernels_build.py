"""Build pgwinnow._winnow_core: the extension's own C code for vectors, callable from Python.

Setuptools builds it with the package (setup.py names ``ffibuilder``).  In a checkout,
``python -m pgwinnow._kernels_build`` compiles it next to the package.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from cffi import FFI

MODULE = "pgwinnow._winnow_core"
SOURCES = (
    "kernels/dispatch.c",
    "kernels/scalar.c",
    "kernels/avx2.c",
    "kernels/avx512.c",
    "kernels/neon.c",
    "core/rotate.c",
    "core/quantize.c",
    "core/refine.c",
    "core/mean.c",
    "core/kmeans.c",
    "core/distance.c",
    "core/exact.c",
)
HEADERS = (
    "kernels/kernels.h",
    "core/rotate.h",
    "core/quantize.h",
    "core/refine.h",
    "core/mean.h",
    "core/kmeans.h",
    "core/distance.h",
    "core/exact.h",
)

# What Python calls, in the words of the headers, which the C compiler checks this against.
DECLARATIONS = """
typedef enum { WINNOW_SIMD_SCALAR, WINNOW_SIMD_NEON, WINNOW_SIMD_AVX2, WINNOW_SIMD_AVX512,
    WINNOW_SIMD_AVX512_VPOPCNT } WinnowSimd;
typedef struct {
    WinnowSimd level;
    const char *name;
    float (*l2_squared)(const float *a, const float *b, int dim);
    float (*inner_product)(const float *a, const float *b, int dim);
    float (*l1)(const float *a, const float *b, int dim);
    void (*cosine_terms)(const float *a, const float *b, int dim, float *ab, float *aa, float *bb);
    void (*l2_squared_many)(const float *query, const float *base, size_t stride_floats, int count, int dim,
        float *out);
    void (*code_differences)(const uint8_t *codes, size_t stride, const uint16_t *rows, int nrows,
        const uint64_t *planes, int nwords, uint32_t *differences);
    void (*quantize_planes)(const float *v, int dim, float low, float inv_step, uint64_t *planes, int nwords);
    void (*greater_bits)(const float *a, const float *b, int dim, uint64_t *bits, int nwords);
    void (*hadamard)(float *v, int n);
    void (*range_int8)(const void *column, int n, int64_t low, int64_t high, uint64_t *mask);
    void (*range_int16)(const void *column, int n, int64_t low, int64_t high, uint64_t *mask);
    void (*range_int32)(const void *column, int n, int64_t low, int64_t high, uint64_t *mask);
    void (*range_int64)(const void *column, int n, int64_t low, int64_t high, uint64_t *mask);
    void (*bits_uint8)(const uint8_t *column, int n, uint8_t bits, bool want, uint64_t *mask);
    void (*signature_all)(const void *column, int n, const uint64_t *need, uint64_t *mask);
    ...;
} WinnowKernels;
extern const WinnowKernels *winnow_kernels;
const WinnowKernels *winnow_kernels_at(WinnowSimd level);
bool winnow_kernels_use(WinnowSimd highest);

typedef struct { int dim; int block; ...; } WinnowRotation;
size_t winnow_rotation_bytes(int dim);
void winnow_rotation_init(WinnowRotation *r, int dim, uint64_t seed);
void winnow_rotate(const WinnowRotation *r, const float *in, float *out);

typedef enum { WINNOW_METRIC_L2 = 1, WINNOW_METRIC_IP = 2, WINNOW_METRIC_COSINE = 3 } WinnowMetric;
typedef struct { double centroid_score; double span; ...; } WinnowQueryCode;
size_t winnow_code_bytes(int dim);
void winnow_encode(const float *x, const float *centroid, int dim, uint8_t *code);
size_t winnow_query_bytes(int dim);
void winnow_query_prepare(WinnowQueryCode *q, WinnowMetric metric, const float *query, const float *centroid,
    int dim);
void winnow_estimate(const WinnowQueryCode *q, const uint8_t *codes, size_t stride, const uint16_t *rows, int nrows,
    float epsilon, float *estimate, float *lower);
void winnow_estimate_errors(const WinnowQueryCode *q, const uint8_t *codes, size_t stride, const uint16_t *rows,
    int nrows, float *error, float *norm);

typedef struct { bool usable; ...; } WinnowRefinementQuery;
size_t winnow_refinement_bytes(int dim, int bits);
void winnow_refinement_encode(const float *x, const float *centroid, int dim, int bits, uint8_t *record);
size_t winnow_refinement_query_bytes(int dim);
void winnow_refinement_prepare(WinnowRefinementQuery *query, const WinnowQueryCode *coarse);
float winnow_refine(const WinnowRefinementQuery *query, const uint8_t *record, int bits, float epsilon,
    float *estimate);

double winnow_mean(const float *rows, const double *weights, const double *within, int n, int dim, float *mean,
    double *squared, double *scratch);

typedef void (*WinnowTick)(void *arg);
size_t winnow_kmeans_scratch_bytes(int n, int dim, int k);
void winnow_kmeans(const float *rows, int n, int dim, int k, int iterations, uint64_t seed, float *centroids,
    int32_t *assign, void *scratch, WinnowTick tick, void *arg);
void winnow_nearest(const float *row, const float *centroids, int k, int dim, int *best, float *distance,
    float *scratch);
size_t winnow_split_scratch_bytes(int n, int dim);
void winnow_split_two(const float *rows, int n, int dim, uint64_t seed, float *centroids, uint8_t *side,
    void *scratch, WinnowTick tick, void *arg);

typedef enum { WINNOW_DISTANCE_L2 = 1, WINNOW_DISTANCE_IP = 2, WINNOW_DISTANCE_COSINE = 3,
    WINNOW_DISTANCE_L1 = 4 } WinnowDistance;
void winnow_distances(WinnowDistance kind, const float *query, const float *base, int64_t n, int dim, float *out);
void winnow_exact_topk(WinnowDistance kind, const float *queries, int nqueries, const float *base, int64_t n,
    int dim, int k, const uint8_t *mask, size_t mask_stride, int64_t *ids, float *distances);
"""


def source_folder() -> Path:
    """Find extension/src: in the checkout this file lies in, or packed into the installed package."""
    package = Path(__file__).resolve().parent
    candidates = (package.parent.parent / "extension" / "src", package / "_extension" / "extension" / "src")
    for folder in candidates:
        if (folder / "kernels" / "kernels.h").is_file():
            return folder
    looked = " and ".join(str(folder) for folder in candidates)
    raise FileNotFoundError(f"the extension's C sources are missing: looked in {looked}")


def make_ffibuilder(folder: Path) -> FFI:
    """Describe the module to cffi, with the C sources in that folder."""
    builder = FFI()
    builder.cdef(DECLARATIONS)
    builder.set_source(
        MODULE,
        "".join(f'#include "{header}"\n' for header in HEADERS),
        sources=[str(folder / source) for source in SOURCES],
        depends=[str(folder / header) for header in (*HEADERS, "kernels/internal.h", "core/random.h")],
        include_dirs=[str(folder)],
        libraries=["m"],
        extra_compile_args=["-std=gnu99", "-O3", "-fvisibility=hidden"],
    )
    return builder


def ffibuilder() -> FFI:
    """Describe the module to setuptools, which runs at the root of the sources and wants paths relative to it."""
    return make_ffibuilder(source_folder().relative_to(Path.cwd()))


def build_in_place() -> Path:
    """Compile the module and put it next to this file; return its path."""
    with tempfile.TemporaryDirectory(prefix="winnow-core-") as work:
        built = Path(make_ffibuilder(source_folder()).compile(tmpdir=work))
        # The name setuptools gives it, so that there is never a second, older one for Python to prefer.
        target = Path(__file__).resolve().parent / "_winnow_core.abi3.so"
        # Under a new name first: a running process may have the old one mapped.
        shutil.copyfile(built, target.with_suffix(".new"))
        target.with_suffix(".new").replace(target)
    return target


if __name__ == "__main__":
    sys.stdout.write(f"{build_in_place()}\n")
