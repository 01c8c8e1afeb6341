// The newest experiences: follows the end of the FIFO list, and keeps as much of it as the curve shows.

import { call } from "./api.js";

const KEPT = 2000;
const PAGE_LIMIT = 1000;
const PAGES_PER_TICK = 5;
const REFRESHED = 10; // the latest ones are read again, because their counters move
const VECTORS_KEPT = 200;

export class Tail {
  rows = [];
  #sequence = -1;
  #startedAt = 0;
  #vectors = new Map();

  latest() {
    return this.rows.slice(-REFRESHED).reverse();
  }

  async follow(status) {
    if (status.started_at !== this.#startedAt && status.sequence < this.#sequence) this.rows = [];
    this.#startedAt = status.started_at;
    if (status.sequence === this.#sequence) return;
    let cursor = this.rows.at(-REFRESHED)?.id ?? this.rows[0]?.id ?? (await this.#nearEnd(status));
    this.rows = this.rows.filter((row) => row.id < cursor);
    for (let page = 0; page < PAGES_PER_TICK && cursor != null; page += 1) {
      const answer = await call(`v1/experiences?cursor=${cursor}&limit=${PAGE_LIMIT}`);
      this.rows.push(...answer.experiences);
      cursor = answer.next_cursor;
    }
    this.rows = this.rows.slice(-KEPT);
    this.#sequence = cursor == null ? status.sequence : -1;
  }

  // Ids are dense but for what was removed, so the end is about this far from the oldest.
  async #nearEnd(status) {
    const oldest = (await call("v1/experiences?limit=1")).experiences[0]?.id ?? 0;
    return Math.max(oldest, oldest + status.size - KEPT);
  }

  async vector(id) {
    if (!this.#vectors.has(id)) {
      this.#vectors.set(id, call(`v1/experiences/${id}`).then((found) => found.vector));
      if (this.#vectors.size > VECTORS_KEPT) this.#vectors.delete(this.#vectors.keys().next().value);
    }
    try {
      return await this.#vectors.get(id);
    } catch (error) {
      this.#vectors.delete(id);
      throw error;
    }
  }
}
