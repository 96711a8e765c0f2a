#include "pool.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>

namespace tledge {
namespace {

struct Job {
    void (*work)(void*, int);
    void* context;
    int count;
    int helpers;            // how many more threads may join
    int active = 0;         // helpers at work
    std::atomic<int> next{0};
    Job* following = nullptr;

    void take_part() {
        for (int i = next.fetch_add(1); i < count; i = next.fetch_add(1)) work(context, i);
    }
};

// Never destroyed: its threads wait on it until the process ends.
struct Pool {
    const pid_t owner = getpid();
    std::mutex mutex;
    std::condition_variable posted, finished;
    Job* jobs = nullptr;
    int threads = 0;

    void serve() {
        std::unique_lock<std::mutex> lock(mutex);
        for (;;) {
            Job* job = jobs;
            while (job != nullptr && job->helpers == 0) job = job->following;
            if (job == nullptr) {
                posted.wait(lock);
                continue;
            }
            --job->helpers;
            ++job->active;
            lock.unlock();
            job->take_part();
            lock.lock();
            if (--job->active == 0) finished.notify_all();
        }
    }

    void run(Job& job) {
        {
            const std::lock_guard<std::mutex> lock(mutex);
            job.following = jobs;
            jobs = &job;
            while (threads < job.helpers) {
                try {
                    std::thread([this] { serve(); }).detach();
                } catch (const std::system_error&) {
                    break;  // no more threads to be had: the calling thread does the rest
                }
                ++threads;
            }
        }
        posted.notify_all();
        job.take_part();
        std::unique_lock<std::mutex> lock(mutex);
        Job** link = &jobs;
        while (*link != &job) link = &(*link)->following;
        *link = job.following;
        finished.wait(lock, [&job] { return job.active == 0; });
    }
};

std::atomic<Pool*> current{nullptr};

// A pool of another process is this one's parent's: its threads are not here, and its mutex may be held.
Pool& pool() {
    for (;;) {
        Pool* known = current.load();
        if (known != nullptr && known->owner == getpid()) return *known;
        Pool* fresh = new Pool;
        if (current.compare_exchange_strong(known, fresh)) return *fresh;
        delete fresh;
    }
}

}  // namespace

void parallel_for(int count, int threads, void (*work)(void*, int), void* context) {
    const int helpers = std::min(count, threads) - 1;
    if (helpers <= 0) {
        for (int i = 0; i < count; ++i) work(context, i);
        return;
    }
    Job job{work, context, count, helpers};
    pool().run(job);
}

}  // namespace tledge
