// Requests to the service that serves this page. The token, if one is needed, is kept in this tab's session storage.

const TOKEN_KEY = "xbuf-token";
const TIMEOUT_MS = 5000;

export class TokenNeeded extends Error {}
export class Rejected extends Error {}
export class Gone extends Error {}

export function useToken(token) {
  sessionStorage.setItem(TOKEN_KEY, token);
}

// Returns the JSON answer. Throws TokenNeeded (401, 403), Rejected (other answers) or Gone (no answer).
export async function call(path, body) {
  const headers = {};
  const token = sessionStorage.getItem(TOKEN_KEY);
  if (token) headers.authorization = `Bearer ${token}`;
  const options = { headers, signal: AbortSignal.timeout(TIMEOUT_MS) };
  if (body !== undefined) {
    headers["content-type"] = "application/json";
    Object.assign(options, { method: "POST", body: JSON.stringify(body) });
  }
  let response, answer;
  try {
    response = await fetch(path, options);
    answer = await response.json();
  } catch (error) {
    throw new Gone(response ? `it answers ${response.status} without JSON` : error.message);
  }
  if (response.ok) return answer;
  const detail = answer.detail ?? answer.title ?? `status ${response.status}`;
  throw new ([401, 403].includes(response.status) ? TokenNeeded : Rejected)(detail);
}
