// The shapes that the modules share. What the server sends is described in docs/forks.md and docs/viewer.md.

/**
 * @typedef {{token: string, token_id: number, probability: number, possible: boolean}} Alternative
 *
 * @typedef {object} Point  a fork, or a place where the policy had an effect
 * @property {number} choice
 * @property {number} index
 * @property {string} token
 * @property {number} entropy  nats
 * @property {string | null} connector
 * @property {Alternative[]} alternatives  likeliest first, at temperature 1 and before the policy
 * @property {string | null} action
 * @property {number} effect  share of the draws that the policy made another
 * @property {{p: number, q: number, verified: boolean, outcomes: Outcome[]} | null} [verified]
 *
 * @typedef {{token: string, answers: Record<string, number>, truncated: number, unanswered: number}} Outcome
 *
 * @typedef {object} Token  one of a choice; `version` changes whenever something of it does
 * @property {number} id
 * @property {string} text  what it writes; "" of a part of a character, which the last part shows whole
 * @property {string | null} bytes  hexadecimal, of a token that is no whole character
 * @property {number | null} nats
 * @property {boolean} reasoning
 * @property {string[]} actions  of the rules that fired here
 * @property {Record<string, number | null> | null} hidden  the signals of hidden states, of a policy that measures some
 * @property {Point | null} fork
 * @property {Point | null} change
 * @property {boolean} given  put there by a branch, by a click or by the policy, not sampled
 * @property {Alternative[] | null} likely  what else could stand here, where it was asked for
 * @property {number | null} before  its probability in the model's own distribution
 * @property {number | null} sampled  its probability in the distribution that it was sampled from
 * @property {number} version
 *
 * @typedef {{above: number[], below: number[]}} Bounds  what a policy's rules compare a signal of hidden states with
 *
 * @typedef {object} TreeNode  as in `tree.nodes` of a trace
 * @property {number} index
 * @property {number | null} parent
 * @property {"answer" | "probe"} kind
 * @property {number | null} position
 * @property {number[]} token_ids  what stands at `position` in place of the parent's tokens
 * @property {string[]} tokens
 * @property {string | null} finish_reason
 * @property {string | null} ended
 * @property {string | null} answer  what it says
 * @property {number} tokens_generated
 * @property {boolean} chosen
 * @property {number | null} entropy
 * @property {Alternative[]} alternatives
 *
 * @typedef {object} Settings  what a request to continue from must repeat
 * @property {string} model
 * @property {any} policy  a name, an inline policy, or "none"
 * @property {number} seed
 * @property {number | null} temperature
 * @property {number | null} topP
 * @property {number | null} most  tokens
 * @property {number} answers
 * @property {any} template  arguments of the chat template, null for none
 */

export {};
