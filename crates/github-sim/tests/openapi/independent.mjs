// Drives the simulator with GitHub's own client library. Prints what it found as one JSON object.
import { App, Octokit } from "octokit";
import { readFileSync } from "node:fs";

const { baseUrl, token, appId, keyFile } = JSON.parse(process.argv[2]);
const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const octokit = new Octokit({ baseUrl, auth: token, log: quiet });

const repo = { owner: "acme", repo: "app" };
const made = [];
for (const name of ["one", "two", "three"]) {
  const { data } = await octokit.rest.actions.generateRunnerJitconfigForRepo({
    ...repo, name, runner_group_id: 1, labels: ["linux"],
  });
  made.push(data.runner.id);
}
const listed = await octokit.paginate(octokit.rest.actions.listSelfHostedRunnersForRepo, {
  ...repo, per_page: 2,
});
await octokit.rest.actions.deleteSelfHostedRunnerFromRepo({ ...repo, runner_id: made[0] });
const again = await octokit.rest.actions
  .deleteSelfHostedRunnerFromRepo({ ...repo, runner_id: made[0] })
  .catch((error) => error.status);
const taken = await octokit.rest.actions
  .generateRunnerJitconfigForRepo({ ...repo, name: "two", runner_group_id: 1, labels: ["linux"] })
  .catch((error) => error.status);
const runs = await octokit.paginate(octokit.rest.actions.listWorkflowRunsForRepo, repo);
const jobs = await octokit.paginate(octokit.rest.actions.listJobsForWorkflowRun, {
  ...repo, run_id: runs[0].id,
});

const app = new App({
  appId, privateKey: readFileSync(keyFile, "utf8"), log: quiet,
  Octokit: Octokit.defaults({ baseUrl, log: quiet }),
});
const { data: installation } = await app.octokit.request("GET /orgs/{org}/installation", { org: "acme" });
const installed = await app.getInstallationOctokit(installation.id);
const { data: registration } = await installed.rest.actions.createRegistrationTokenForOrg({ org: "acme" });

console.log(JSON.stringify({
  listed: listed.map((runner) => runner.name),
  again, taken,
  queued: jobs.map((job) => job.status),
  registered: registration.token.length > 0,
}));
