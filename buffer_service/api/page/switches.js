// The generations that began to serve while this tab looked on. The service itself tells only the last one.

const KEY = "xbuf-switches";
const KEPT = 50;

export class Switches {
  #seen = JSON.parse(sessionStorage.getItem(KEY) ?? "[]");

  // Returns all that were seen since the service started, oldest first.
  note(status) {
    const last = status.switch;
    if (last && !this.#seen.some((seen) => seen.at === last.at && seen.revision === last.revision)) {
      this.#seen.push({ ...last, watermark: status.watermark, rows: status.index_rows });
      this.#seen = this.#seen.slice(-KEPT);
      sessionStorage.setItem(KEY, JSON.stringify(this.#seen));
    }
    return this.#seen.filter((seen) => seen.at >= status.started_at);
  }
}
