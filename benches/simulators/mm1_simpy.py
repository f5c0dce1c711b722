"""One server that is 70 % busy, in SimPy. Prints requests, mean seconds in the system, and seconds of CPU time."""

import random
import sys
import time

import simpy

RATE = 1000.0
WORK = 0.0007


def serve(env, server, chance, times):
    came = env.now
    with server.request() as turn:
        yield turn
        yield env.timeout(chance.expovariate(1.0 / WORK))
    times.append(env.now - came)


def arrive(env, server, requests, times):
    gaps, work = random.Random(1), random.Random(2)
    for _ in range(requests):
        yield env.timeout(gaps.expovariate(RATE))
        env.process(serve(env, server, work, times))


def main():
    requests = int(sys.argv[1])
    times = []
    began = time.process_time()
    env = simpy.Environment()
    env.process(arrive(env, simpy.Resource(env), requests, times))
    env.run()
    took = time.process_time() - began
    print(len(times), sum(times) / len(times), took, simpy.__version__)


main()
