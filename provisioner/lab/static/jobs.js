import { Notice } from "./notice.js";

const LOOK = 400;

/**
 * Follow a job of the server to its end, in one notification.
 *
 * @param context - what all features share
 * @param job - the job, as the server answered
 * @param words - the texts: `doing` while it runs, and `done` when it has succeeded
 */
export async function follow(context, job, { doing, done }) {
  const { lab, api, trans, format, followed } = context;
  const notice = new Notice(lab, trans);
  followed.add(job.volume);
  try {
    let now = job;
    while (now.state === "running") {
      notice.progress(`${doing} ${share(now, format)}`);
      await new Promise((resolve) => setTimeout(resolve, LOOK));
      now = await api.job(job.id);
    }
    if (now.state === "done") {
      notice.succeed(done);
    } else {
      notice.fail(now.error?.message ?? now.message);
    }
  } catch (error) {
    notice.fail(error.message);
  } finally {
    followed.delete(job.volume);
  }
}

/** The progress, in percent if the total is known. */
function share({ done_bytes: done, total_bytes: total }, format) {
  if (done === null) {
    return "…";
  }
  return total ? `${Math.floor((100 * done) / total)} %` : format.size(done);
}
