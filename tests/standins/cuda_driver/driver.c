/* A stand-in for libcuda.so.1: enough of CUDA's driver API for the real pycuda, with one GPU that is the CPU.
 *
 * Device memory is host memory. A stream keeps what it is given in a list, and runs it only when somebody waits for
 * it: code that forgets to wait reads memory that was never written, as it would (sometimes) on a GPU. A kernel
 * launch calls the function NAME__host of a shared library, which is the kernel's own source compiled for the CPU
 * (STANDIN_KERNELS names the library; see host_kernels.cpp). Errors have the codes that the real driver gives.
 *
 * Several threads may launch and wait, each on a stream of its own; all else is for one thread at a time. What pycuda
 * links to and the tests do not need answers "not supported" (unsupported.inc).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef int Result;
typedef unsigned long long Pointer;

enum {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    INVALID_SOURCE = 300,
    NOT_FOUND = 500,
    NOT_READY = 600,
    ILLEGAL_ADDRESS = 700,
    NOT_SUPPORTED = 801,
    CAPTURE_UNSUPPORTED = 900,
    CAPTURE_INVALIDATED = 901,
};

static const size_t TOTAL_MEMORY = (size_t)1 << 30;

Result cuGetErrorString(Result code, const char **text) {
    switch (code) {
        case SUCCESS: *text = "no error"; break;
        case INVALID_VALUE: *text = "invalid argument"; break;
        case OUT_OF_MEMORY: *text = "out of memory"; break;
        case INVALID_DEVICE: *text = "invalid device ordinal"; break;
        case INVALID_IMAGE: *text = "device kernel image is invalid"; break;
        case INVALID_CONTEXT: *text = "invalid device context"; break;
        case INVALID_SOURCE: *text = "device kernel image is invalid: STANDIN_KERNELS names no library"; break;
        case NOT_FOUND: *text = "named symbol not found"; break;
        case ILLEGAL_ADDRESS: *text = "an illegal memory access was encountered"; break;
        case NOT_SUPPORTED: *text = "operation not supported by the stand-in"; break;
        case CAPTURE_UNSUPPORTED: *text = "operation not permitted when stream is capturing"; break;
        case CAPTURE_INVALIDATED: *text = "operation failed due to a previous error during capture"; break;
        default: *text = "unknown error"; break;
    }
    return SUCCESS;
}

/* ---- The driver and its one device ------------------------------------------------------------------------- */

static int initialised;

Result cuInit(unsigned flags) {
    (void)flags;
    if (getenv("STANDIN_NO_INIT")) return NOT_INITIALIZED;
    initialised = 1;
    return SUCCESS;
}

Result cuDriverGetVersion(int *version) { *version = 13000; return SUCCESS; }

Result cuDeviceGetCount(int *count) {
    if (!initialised) return NOT_INITIALIZED;
    *count = getenv("STANDIN_NO_GPU") ? 0 : 1;
    return SUCCESS;
}

Result cuDeviceGet(int *device, int ordinal) {
    if (!initialised) return NOT_INITIALIZED;
    *device = 0;
    return ordinal == 0 ? SUCCESS : INVALID_DEVICE;
}

Result cuDeviceGetName(char *name, int length, int device) {
    (void)device;
    snprintf(name, (size_t)length, "stand-in GPU");
    return SUCCESS;
}

Result cuDeviceComputeCapability(int *major, int *minor, int device) {
    (void)device;
    *major = 8;
    *minor = 7;
    return SUCCESS;
}

Result cuDeviceTotalMem_v2(size_t *bytes, int device) { (void)device; *bytes = TOTAL_MEMORY; return SUCCESS; }

Result cuDeviceGetPCIBusId(char *id, int length, int device) {
    (void)device;
    snprintf(id, (size_t)length, "0000:00:00.0");
    return SUCCESS;
}

Result cuDeviceGetAttribute(int *value, int attribute, int device) {
    (void)device;
    switch (attribute) {
        case 1: *value = 1024; break; /* MAX_THREADS_PER_BLOCK */
        case 10: *value = 32; break;  /* WARP_SIZE */
        case 18: *value = !getenv("STANDIN_DISCRETE"); break; /* INTEGRATED: as on a Jetson */
        case 75: *value = 8; break;   /* COMPUTE_CAPABILITY_MAJOR */
        case 76: *value = 7; break;   /* COMPUTE_CAPABILITY_MINOR */
        default: *value = 1; break;
    }
    return SUCCESS;
}

/* ---- Contexts: a stack of current ones for each thread ------------------------------------------------------- */

static int primary_context;              /* its address is the context's handle */
static Result lost;                      /* an error after which nothing works any more */
static __thread void *stack[64];
static __thread int depth;

#define NEED_CONTEXT             \
    if (!depth) return INVALID_CONTEXT; \
    if (lost) return lost

int standin_context_depth(void) { return depth; }

Result cuDevicePrimaryCtxRetain(void **context, int device) {
    (void)device;
    ++primary_context;
    *context = &primary_context;
    return SUCCESS;
}

Result cuDevicePrimaryCtxRelease_v2(int device) { (void)device; --primary_context; return SUCCESS; }
int standin_primary_references(void) { return primary_context; }

Result cuCtxPushCurrent_v2(void *context) {
    if (depth == 64) return INVALID_VALUE;
    stack[depth++] = context;
    return SUCCESS;
}

Result cuCtxPopCurrent_v2(void **context) {
    if (!depth) return INVALID_CONTEXT;
    --depth;
    if (context) *context = stack[depth];
    return SUCCESS;
}

Result cuCtxGetCurrent(void **context) { *context = depth ? stack[depth - 1] : NULL; return SUCCESS; }
Result cuCtxGetDevice(int *device) { *device = 0; return depth ? SUCCESS : INVALID_CONTEXT; }
Result cuCtxGetApiVersion(void *context, unsigned *version) { (void)context; *version = 13000; return SUCCESS; }
Result cuCtxDetach(void *context) { (void)context; return SUCCESS; }
Result cuCtxDestroy_v2(void *context) { (void)context; return SUCCESS; }
Result cuCtxAttach(void **context, unsigned flags) { (void)flags; return cuCtxGetCurrent(context); }

/* ---- Memory: blocks that are counted, so that leaks and exhaustion can be tested ------------------------------- */

typedef struct Block {
    void *start;
    size_t size;
    int on_host; /* page-locked host memory */
    struct Block *next;
} Block;

static Block *blocks;
static size_t used;

static Block **find_block(const void *pointer) {
    Block **link = &blocks;
    while (*link && !((char *)pointer >= (char *)(*link)->start && (char *)pointer < (char *)(*link)->start + (*link)->size))
        link = &(*link)->next;
    return link;
}

static void *new_block(size_t size, int on_host) {
    void *start;
    if (!on_host && used + size > TOTAL_MEMORY) return NULL;
    if (posix_memalign(&start, 4096, size ? size : 1)) return NULL;
    memset(start, 0xCD, size); /* whoever reads what was not written shall notice */
    Block *block = malloc(sizeof *block);
    *block = (Block){start, size, on_host, blocks};
    blocks = block;
    if (!on_host) used += size;
    return start;
}

static Result free_block(void *start) {
    Block **link = find_block(start);
    Block *block = *link;
    if (!block || block->start != start) return INVALID_VALUE;
    *link = block->next;
    if (!block->on_host) used -= block->size;
    free(start);
    free(block);
    return SUCCESS;
}

static int is_pinned(const void *pointer) {
    Block *block = *find_block(pointer);
    return block && block->on_host;
}

size_t standin_used_memory(void) { return used; }

Result cuMemGetInfo_v2(size_t *available, size_t *total) {
    NEED_CONTEXT;
    *available = TOTAL_MEMORY - used;
    *total = TOTAL_MEMORY;
    return SUCCESS;
}

Result cuMemAlloc_v2(Pointer *pointer, size_t size) {
    NEED_CONTEXT;
    void *start = new_block(size, 0);
    *pointer = (Pointer)(uintptr_t)start;
    return start ? SUCCESS : OUT_OF_MEMORY;
}

Result cuMemHostAlloc(void **pointer, size_t size, unsigned flags) {
    (void)flags;
    NEED_CONTEXT;
    *pointer = new_block(size, 1);
    return *pointer ? SUCCESS : OUT_OF_MEMORY;
}

static Result drain_all(void);

/* Freeing waits for the device. */
Result cuMemFree_v2(Pointer pointer) { drain_all(); return free_block((void *)(uintptr_t)pointer); }
Result cuMemFreeHost(void *pointer) { drain_all(); return free_block(pointer); }
Result cuMemHostGetFlags(unsigned *flags, void *pointer) { (void)pointer; *flags = 0; return SUCCESS; }

Result cuMemHostGetDevicePointer_v2(Pointer *pointer, void *host, unsigned flags) {
    (void)flags;
    if (!is_pinned(host)) return INVALID_VALUE;
    *pointer = (Pointer)(uintptr_t)host;
    return SUCCESS;
}

/* ---- Streams: lists of operations ----------------------------------------------------------------------------- */

typedef Result (*HostKernel)(const unsigned grid[3], const unsigned block[3], unsigned shared, const void *arguments);
typedef void (*HostFunction)(void *data);
typedef struct Stream Stream;
typedef struct Graph Graph;

typedef struct Event {
    double milliseconds;
    Stream *stream;
} Event;

typedef struct Operation {
    enum { COPY, KERNEL, FUNCTION, RECORD, WAIT, GRAPH } kind;
    void *to;
    const void *from;
    size_t size; /* of the copy, or of the kernel's arguments */
    HostKernel kernel;
    HostFunction function;
    unsigned grid[3], block[3], shared;
    void *owned; /* a kernel's arguments, or the copy of what was in memory that is not page-locked */
    Event *event;
    Graph *graph;
    struct Operation *next;
} Operation;

struct Graph {
    Operation *first, *last;
};

struct Stream {
    Graph pending;
    int capturing;
    Stream *next;
};

static Stream *streams;

static void append(Graph *list, const Operation *operation) {
    Operation *copy = malloc(sizeof *copy);
    *copy = *operation;
    copy->next = NULL;
    if (list->last) list->last->next = copy;
    else list->first = copy;
    list->last = copy;
}

static void clear(Graph *list) {
    for (Operation *operation = list->first, *next; operation; operation = next) {
        next = operation->next;
        free(operation->owned);
        free(operation);
    }
    *list = (Graph){NULL, NULL};
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e3 + time.tv_nsec * 1e-6;
}

static Result drain(Stream *stream);

static size_t copied_back; /* bytes, into page-locked memory */
size_t standin_copied_back(void) { return copied_back; }

static Result run(const Graph *list) {
    for (const Operation *operation = list->first; operation; operation = operation->next) {
        if (lost) return lost;
        switch (operation->kind) {
            case COPY:
                memcpy(operation->to, operation->from, operation->size);
                if (is_pinned(operation->to)) copied_back += operation->size;
                break;
            case KERNEL:
                lost = operation->kernel(operation->grid, operation->block, operation->shared, operation->owned);
                break;
            case FUNCTION: operation->function(operation->to); break;
            case RECORD: operation->event->milliseconds = now(); break;
            case WAIT:
                if (operation->event->stream) drain(operation->event->stream);
                break;
            case GRAPH: run(operation->graph); break;
        }
    }
    return lost;
}

/* Run what the stream was given. The list is taken off first: a wait may come back to this stream. */
static Result drain(Stream *stream) {
    Graph list = stream->pending;
    stream->pending = (Graph){NULL, NULL};
    Result result = run(&list);
    clear(&list);
    return result;
}

static Result drain_all(void) {
    for (Stream *stream = streams; stream; stream = stream->next)
        if (!stream->capturing) drain(stream);
    return lost;
}

static Result give(Stream *stream, const Operation *operation) {
    if (!stream) { /* the legacy stream: nothing is put off */
        Graph list = {NULL, NULL};
        append(&list, operation);
        Result result = run(&list);
        clear(&list);
        return result;
    }
    append(&stream->pending, operation);
    return SUCCESS;
}

Result cuStreamCreate(Stream **stream, unsigned flags) {
    (void)flags;
    NEED_CONTEXT;
    *stream = calloc(1, sizeof **stream);
    (*stream)->next = streams;
    streams = *stream;
    return SUCCESS;
}

Result cuStreamDestroy_v2(Stream *stream) {
    drain(stream);
    Stream **link = &streams;
    while (*link && *link != stream) link = &(*link)->next;
    if (*link) *link = stream->next;
    free(stream);
    return SUCCESS;
}

Result cuStreamSynchronize(Stream *stream) {
    NEED_CONTEXT;
    if (!stream) return drain_all();
    return stream->capturing ? CAPTURE_UNSUPPORTED : drain(stream);
}

Result cuStreamQuery(Stream *stream) { return stream && stream->pending.first ? NOT_READY : lost; }
Result cuCtxSynchronize(void) { NEED_CONTEXT; return drain_all(); }

Result cuStreamWaitEvent(Stream *stream, Event *event, unsigned flags) {
    (void)flags;
    return give(stream, &(Operation){.kind = WAIT, .event = event});
}

/* A function of the host in a stream's order; it calls nothing of CUDA. */
Result cuLaunchHostFunc(Stream *stream, HostFunction function, void *data) {
    NEED_CONTEXT;
    return give(stream, &(Operation){.kind = FUNCTION, .function = function, .to = data});
}

/* ---- Copies ----------------------------------------------------------------------------------------------------- */

static Result copy(void *to, const void *from, size_t size, Stream *stream) {
    return give(stream, &(Operation){.kind = COPY, .to = to, .from = from, .size = size});
}

Result cuMemcpyHtoD_v2(Pointer to, const void *from, size_t size) {
    NEED_CONTEXT;
    return copy((void *)(uintptr_t)to, from, size, NULL);
}

Result cuMemcpyDtoH_v2(void *to, Pointer from, size_t size) {
    NEED_CONTEXT;
    return copy(to, (void *)(uintptr_t)from, size, NULL);
}

Result cuMemcpyHtoDAsync_v2(Pointer to, const void *from, size_t size, Stream *stream) {
    NEED_CONTEXT;
    if (is_pinned(from)) return copy((void *)(uintptr_t)to, from, size, stream);
    if (stream && stream->capturing) return CAPTURE_UNSUPPORTED;
    /* Memory that is not page-locked is copied aside before the call returns. */
    void *aside = malloc(size);
    memcpy(aside, from, size);
    return give(stream, &(Operation){
        .kind = COPY, .to = (void *)(uintptr_t)to, .from = aside, .size = size, .owned = aside});
}

Result cuMemcpyDtoHAsync_v2(void *to, Pointer from, size_t size, Stream *stream) {
    NEED_CONTEXT;
    Result result = copy(to, (void *)(uintptr_t)from, size, stream);
    if (is_pinned(to) || !stream) return result;
    return stream->capturing ? CAPTURE_UNSUPPORTED : drain(stream); /* into other memory the call waits */
}

Result cuMemcpyDtoDAsync_v2(Pointer to, Pointer from, size_t size, Stream *stream) {
    NEED_CONTEXT;
    return copy((void *)(uintptr_t)to, (void *)(uintptr_t)from, size, stream);
}

/* ---- Events ----------------------------------------------------------------------------------------------------- */

static int events;
int standin_events(void) { return events; }

Result cuEventCreate(Event **event, unsigned flags) {
    (void)flags;
    NEED_CONTEXT;
    *event = calloc(1, sizeof **event);
    ++events;
    return SUCCESS;
}

Result cuEventDestroy_v2(Event *event) { drain_all(); --events; free(event); return SUCCESS; }

/* In a captured stream an event only orders the graph and keeps no time, unless it is external: then it is a node. */
Result cuEventRecordWithFlags(Event *event, Stream *stream, unsigned flags) {
    NEED_CONTEXT;
    const int external = flags & 1, capturing = stream && stream->capturing;
    if (flags > 1 || (external && !capturing)) return INVALID_VALUE;
    event->stream = stream;
    event->milliseconds = 0;
    if (capturing && !external) return SUCCESS;
    return give(stream, &(Operation){.kind = RECORD, .event = event});
}

Result cuEventRecord(Event *event, Stream *stream) { return cuEventRecordWithFlags(event, stream, 0); }

Result cuEventSynchronize(Event *event) { return event->stream ? drain(event->stream) : lost; }
Result cuEventQuery(Event *event) { return event->milliseconds == 0 ? NOT_READY : SUCCESS; }

Result cuEventElapsedTime_v2(float *milliseconds, Event *start, Event *end) {
    if (start->milliseconds == 0 || end->milliseconds == 0) return NOT_READY;
    *milliseconds = (float)(end->milliseconds - start->milliseconds);
    return SUCCESS;
}

Result cuEventElapsedTime(float *milliseconds, Event *start, Event *end) {
    return cuEventElapsedTime_v2(milliseconds, start, end);
}

/* ---- Kernels ---------------------------------------------------------------------------------------------------- */

typedef struct {
    void *library;
} Module;

Result cuModuleLoadDataEx(Module **module, const void *image, unsigned count, void *options, void **values) {
    (void)count, (void)options, (void)values;
    NEED_CONTEXT;
    const unsigned char *bytes = image;
    const unsigned fatbin = 0xBA55ED50u;
    int known = !memcmp(bytes, "\177ELF", 4) || !memcmp(bytes, &fatbin, 4) || !memcmp(bytes, "//", 2);
    if (!known) return INVALID_IMAGE;
    const char *name = getenv("STANDIN_KERNELS");
    void *library = name ? dlopen(name, RTLD_NOW | RTLD_NODELETE) : NULL;
    if (!library) return INVALID_SOURCE;
    *module = malloc(sizeof **module);
    (*module)->library = library;
    return SUCCESS;
}

Result cuModuleLoadData(Module **module, const void *image) { return cuModuleLoadDataEx(module, image, 0, NULL, NULL); }

Result cuModuleUnload(Module *module) {
    dlclose(module->library);
    free(module);
    return SUCCESS;
}

Result cuModuleGetFunction(HostKernel *kernel, Module *module, const char *name) {
    char symbol[256];
    snprintf(symbol, sizeof symbol, "%s__host", name);
    *kernel = (HostKernel)dlsym(module->library, symbol);
    return *kernel ? SUCCESS : NOT_FOUND;
}

Result cuFuncGetAttribute(int *value, int attribute, HostKernel kernel) {
    (void)attribute, (void)kernel;
    *value = 0;
    return SUCCESS;
}

/* Of an older way to launch; pycuda still makes the call before the launch, which gives the block again. */
Result cuFuncSetBlockShape(HostKernel kernel, int x, int y, int z) {
    (void)kernel;
    return x > 0 && y > 0 && z > 0 ? SUCCESS : INVALID_VALUE;
}

Result cuLaunchKernel(HostKernel kernel, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                      unsigned block_y, unsigned block_z, unsigned shared, Stream *stream, void **parameters,
                      void **extra) {
    (void)parameters;
    NEED_CONTEXT;
    if (!grid_x || !grid_y || !grid_z || !block_x || !block_y || !block_z || block_x * block_y * block_z > 1024)
        return INVALID_VALUE;
    const void *arguments = NULL;
    size_t size = 0;
    /* Pairs of a key (1: the packed arguments, 2: their size) and a value, ended by a null key. */
    for (int i = 0; extra && extra[i]; i += 2) {
        if (extra[i] == (void *)1) arguments = extra[i + 1];
        if (extra[i] == (void *)2) size = *(size_t *)extra[i + 1];
    }
    if (!arguments) return INVALID_VALUE;
    void *owned = malloc(size);
    memcpy(owned, arguments, size);
    return give(stream, &(Operation){.kind = KERNEL,
                                     .kernel = kernel,
                                     .grid = {grid_x, grid_y, grid_z},
                                     .block = {block_x, block_y, block_z},
                                     .shared = shared,
                                     .owned = owned,
                                     .size = size});
}

/* ---- Graphs ----------------------------------------------------------------------------------------------------- */

Result cuStreamBeginCapture_v2(Stream *stream, int mode) {
    (void)mode;
    if (!stream || stream->capturing) return INVALID_VALUE;
    drain(stream);
    stream->capturing = 1;
    return SUCCESS;
}

Result cuStreamEndCapture(Stream *stream, Graph **graph) {
    if (!stream->capturing) return CAPTURE_INVALIDATED;
    *graph = malloc(sizeof **graph);
    **graph = stream->pending;
    stream->pending = (Graph){NULL, NULL};
    stream->capturing = 0;
    return SUCCESS;
}

static int executables;
int standin_graphs(void) { return executables; }

Result cuGraphInstantiateWithFlags(Graph **executable, Graph *graph, unsigned long long flags) {
    (void)flags;
    *executable = calloc(1, sizeof **executable);
    for (const Operation *operation = graph->first; operation; operation = operation->next) {
        Operation copied = *operation;
        if (operation->owned) { /* a kernel's arguments; a copy that owns its source cannot be captured */
            copied.owned = malloc(operation->size);
            memcpy(copied.owned, operation->owned, operation->size);
        }
        append(*executable, &copied);
    }
    ++executables;
    return SUCCESS;
}

Result cuGraphDestroy(Graph *graph) { clear(graph); free(graph); return SUCCESS; }
Result cuGraphExecDestroy(Graph *graph) { drain_all(); --executables; return cuGraphDestroy(graph); }

Result cuGraphLaunch(Graph *graph, Stream *stream) {
    if (lost) return lost;
    return give(stream, &(Operation){.kind = GRAPH, .graph = graph});
}

/* ---- The rest ----------------------------------------------------------------------------------------------------- */

#define UNSUPPORTED(name) Result name(void) { return NOT_SUPPORTED; }
#include "unsupported.inc"
