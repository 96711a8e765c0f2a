// A small thread pool that survives fork.
#pragma once

namespace tledge {

// Calls work(context, i) for i = 0 .. count - 1 on at most `threads` threads, the calling one among them, and
// returns when all are done. Threads are kept for the next call. After a fork the child begins with none (data
// loaders fork, and a pool that does not know of it hangs there).
void parallel_for(int count, int threads, void (*work)(void*, int), void* context);

}  // namespace tledge
