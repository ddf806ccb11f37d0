/* A loop over a runtime's own C API, as tight as one can be written: what edgepack's harness is held against.

   cc -O2 -o loops loops.c -ldl
   loops onnxruntime|litert LIBRARY MODEL CALLS WARM SIZE…     one input x and one output y of float32 with these sizes

   Each call is timed by itself with clock_gettime, inputs and outputs lie ready. Prints {"samples_ns": […]}.
   The declarations follow onnxruntime_c_api.h (whose table of functions only ever grows) and litert/c of LiteRT 2.3. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef void *handle;
typedef void (*call)(void);

static int64_t sizes[8];
static size_t rank, elements = 1;

static void fail(const char *what, long status) {
    fprintf(stderr, "%s failed (%ld)\n", what, status);
    exit(1);
}

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void measure(call run, long calls, long warm) {
    int64_t *taken = calloc(calls, sizeof *taken);
    for (long i = 0; i < warm; i++) run();
    for (long i = 0; i < calls; i++) {
        int64_t before = now();
        run();
        taken[i] = now() - before;
    }
    printf("{\"samples_ns\":[");
    for (long i = 0; i < calls; i++) printf("%s%ld", i ? "," : "", (long)taken[i]);
    printf("]}\n");
}

/* onnxruntime: positions in its table of functions */
enum { CREATE_ENV = 3, CREATE_SESSION = 7, RUN = 9, CREATE_OPTIONS = 10, INTRA_THREADS = 24, INTER_THREADS = 25,
       WITH_DATA = 49, MEMORY_INFO = 69 };
typedef struct { handle (*api)(uint32_t); const char *(*version)(void); } api_base;
static handle *ort, session, input, output;
static const char *input_name = "x", *output_name = "y";
typedef handle (*ort_run)(handle, handle, const char *const *, const handle *, size_t, const char *const *, size_t, handle *);
static ort_run run_session;

static void check(handle status, const char *what) { if (status) fail(what, 0); }

static void run_onnxruntime(void) {
    if (run_session(session, NULL, &input_name, (const handle *)&input, 1, &output_name, 1, &output)) fail("Run", 0);
}

static handle tensor(handle memory) {
    handle made;
    check(((handle (*)(handle, void *, size_t, const int64_t *, size_t, int, handle *))ort[WITH_DATA])(
        memory, calloc(elements, 4), elements * 4, sizes, rank, 1, &made), "CreateTensorWithDataAsOrtValue");
    return made;
}

static void open_onnxruntime(handle library, const char *model) {
    handle environment, options, memory;
    api_base *base = ((api_base *(*)(void))dlsym(library, "OrtGetApiBase"))();
    ort = base->api(1);
    if (!ort) fail("OrtGetApiBase", 0);
    check(((handle (*)(int, const char *, handle *))ort[CREATE_ENV])(3, "loops", &environment), "CreateEnv");
    check(((handle (*)(handle *))ort[CREATE_OPTIONS])(&options), "CreateSessionOptions");
    check(((handle (*)(handle, int))ort[INTRA_THREADS])(options, 1), "SetIntraOpNumThreads");
    check(((handle (*)(handle, int))ort[INTER_THREADS])(options, 1), "SetInterOpNumThreads");
    check(((handle (*)(handle, const char *, handle, handle *))ort[CREATE_SESSION])(environment, model, options, &session),
          "CreateSession");
    check(((handle (*)(int, int, handle *))ort[MEMORY_INFO])(1, 0, &memory), "CreateCpuMemoryInfo");
    run_session = (ort_run)ort[RUN];
    input = tensor(memory);
    output = tensor(memory);
}

/* LiteRT: a CompiledModel on the CPU */
static int (*run_compiled)(handle, size_t, size_t, handle *, size_t, handle *);
static handle compiled, in_buffer, out_buffer;

static void run_litert(void) {
    int status = run_compiled(compiled, 0, 1, &in_buffer, 1, &out_buffer);
    if (status) fail("LiteRtRunCompiledModel", status);
}

static void *find(handle library, const char *name) {
    void *found = dlsym(library, name);
    if (!found) fail(name, -1);
    return found;
}

typedef struct { uint32_t rank; int32_t sizes[8]; uint32_t strides[8]; } layout;
typedef struct { int element; layout shape; } tensor_type;
#define LITE(name, ...) ((int (*)())find(library, "LiteRt" name))(__VA_ARGS__)
#define MUST(name, ...) do { int s = LITE(name, __VA_ARGS__); if (s) fail(name, s); } while (0)

static handle buffer(handle library, handle environment, handle model, int is_input) {
    handle signature, tensor, needs, made;
    tensor_type type = {0};
    MUST("GetModelSignature", model, (size_t)0, &signature);
    if (is_input) MUST("GetSignatureInputTensorByIndex", signature, (size_t)0, &tensor);
    else MUST("GetSignatureOutputTensorByIndex", signature, (size_t)0, &tensor);
    MUST("GetRankedTensorType", tensor, &type);
    if (is_input) MUST("GetCompiledModelInputBufferRequirements", compiled, (size_t)0, (size_t)0, &needs);
    else MUST("GetCompiledModelOutputBufferRequirements", compiled, (size_t)0, (size_t)0, &needs);
    MUST("CreateManagedTensorBufferFromRequirements", environment, &type, needs, &made);
    return made;
}

static void open_litert(handle library, const char *path) {
    handle environment, model, options, threads;
    MUST("CreateEnvironment", 0, NULL, &environment);
    MUST("CreateModelFromFile", environment, path, &model);
    MUST("CreateOptions", &options);
    MUST("SetOptionsHardwareAccelerators", options, 1);
    MUST("CreateOpaqueOptions", "xnnpack", strdup("num_threads = 1\n"), free, &threads);
    MUST("AddOpaqueOptions", options, threads);
    MUST("CreateCompiledModel", environment, model, options, &compiled);
    run_compiled = find(library, "LiteRtRunCompiledModel");
    in_buffer = buffer(library, environment, model, 1);
    out_buffer = buffer(library, environment, model, 0);
}

int main(int count, char **words) {
    if (count < 7) fail("usage: loops RUNTIME LIBRARY MODEL CALLS WARM SIZE…; arguments", count);
    for (int i = 6; i < count; i++) elements *= sizes[rank++] = atol(words[i]);
    handle library = dlopen(words[2], RTLD_NOW | RTLD_GLOBAL);
    if (!library) { fprintf(stderr, "%s\n", dlerror()); return 1; }
    int lite = !strcmp(words[1], "litert");
    if (lite) open_litert(library, words[3]);
    else open_onnxruntime(library, words[3]);
    measure(lite ? run_litert : run_onnxruntime, atol(words[4]), atol(words[5]));
    fflush(stdout);
    _exit(0);   /* a runtime's own teardown is nobody's latency */
}
