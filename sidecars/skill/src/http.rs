//! The routes.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    body::{Body, Bytes},
    extract::{Path, Request, State},
    http::{StatusCode, header, request::Parts},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Serialize;
use serde_json::json;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::{
    answer::{NO_TURN, render, render_within},
    caller::Caller,
    guard,
    manifest::Manifest,
    name::SkillName,
    refusal::Refusal,
    request::{Encoding, RequestError, RunRequest},
    run::Ending,
    service::{Job, Phase, Service},
    tasks::Known,
};

/// Runs that may take longer than this become tasks.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The one route that needs no token: it says that the server is there, and nothing else.
const HEALTH: &str = "/healthz";

/// Seconds after which a caller may try again.
const RETRY: u64 = 1;

/// JSON takes at most this many bytes for one of a program's: `\u0000`.
const WORST_ESCAPE: usize = 6;

/// Builds the routes of a service.
pub(crate) fn routes(service: Arc<Service>) -> Router {
    Router::new()
        .route(HEALTH, get(async || "ok"))
        .route("/skills", get(list))
        .route("/skill/{name}", post(run))
        .route("/task/{id}", get(poll).delete(end))
        .fallback(async || Refusal::new(StatusCode::NOT_FOUND, "there is nothing here"))
        .method_not_allowed_fallback(async || {
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "this method is not for this path")
        })
        .layer(from_fn_with_state(service.clone(), admit))
        .with_state(service)
}

/// Hears a request only if its head is in order; its body has not been read then.
async fn admit(State(service): State<Arc<Service>>, request: Request, next: Next) -> Response {
    let (mut head, body) = request.into_parts();
    let caller = match identify(&service, &head) {
        Ok(caller) => caller,
        Err(refusal) => return refuse(&service, None, &head, refusal).await,
    };
    if let Some(caller) = caller {
        head.extensions.insert(caller);
    }
    next.run(Request::from_parts(head, body)).await
}

/// Finds out who calls; only the health check needs to be nobody.
fn identify(service: &Service, head: &Parts) -> Result<Option<Arc<Caller>>, Refusal> {
    service.guard.check(head)?;
    if head.uri.path() == HEALTH {
        return Ok(None);
    }
    let caller = service.callers.identify(guard::token(&head.headers)?);
    caller.map(Some).ok_or_else(|| {
        Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized").with_hint("send the caller's token as `X-Skill-Token`")
    })
}

async fn refuse(service: &Service, caller: Option<&Caller>, head: &Parts, refusal: Refusal) -> Response {
    let caller = caller.map(|caller| caller.name.as_str());
    let (method, path) = (head.method.as_str(), head.uri.path());
    service.audit.refused(caller, method, path, refusal.status.as_u16(), &refusal.error).await;
    refusal.into_response()
}

/// `GET /skills`: what the caller may run.
async fn list(State(service): State<Arc<Service>>, Extension(caller): Extension<Arc<Caller>>) -> Response {
    #[derive(Serialize)]
    struct Entry<'a> {
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<&'a str>,
    }
    match service.skills() {
        Ok(names) => {
            let entries: Vec<Entry<'_>> = names
                .iter()
                .filter(|name| caller.may_run(name))
                .filter_map(|name| Some((name, service.manifest(name)?)))
                .map(|(name, manifest)| Entry { name: name.as_str(), description: manifest.description.as_deref() })
                .collect();
            axum::Json(json!({ "skills": entries })).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "cannot list the skills folder");
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "cannot list the skills").into_response()
        }
    }
}

/// `POST /skill/<name>`: runs a skill, or starts a task where it may take long.
async fn run(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Arc<Caller>>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    let (job, cancel, encoding) = match accept(&service, &caller, &name, &head, body).await {
        Ok(accepted) => accepted,
        Err(refusal) => return refuse(&service, Some(&caller), &head, refusal).await,
    };
    if job.time <= LONGEST_WAIT {
        // The run is a task of the runtime's own: if the caller hangs up, this future is dropped, and with it `cancel`.
        let outcome = tokio::spawn(job.perform()).await;
        drop(cancel);
        return match outcome {
            Ok(outcome) if outcome.ending == Ending::NoTurn => Refusal::busy(NO_TURN, RETRY).into_response(),
            Ok(outcome) => json_response(StatusCode::OK, render(&outcome, encoding)),
            Err(_) => Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the run broke off").into_response(),
        };
    }
    let output = service.manifest(&job.skill).and_then(|manifest| manifest.output).unwrap_or(service.limits.output);
    let reserve = output.saturating_mul(2 * WORST_ESCAPE).min(service.limits.results / 4);
    let Some(ticket) = service.tasks.enter(&caller.name, reserve, cancel) else {
        let refusal = Refusal::busy("too many results are kept; fetch and DELETE some", RETRY);
        return refuse(&service, Some(&caller), &head, refusal).await;
    };
    let body = json!({ "status": "pending", "task_id": ticket.id });
    tokio::spawn(async move {
        let outcome = job.perform().await;
        ticket.finish(render_within(reserve, outcome, encoding));
    });
    (StatusCode::ACCEPTED, axum::Json(body)).into_response()
}

/// Checks everything about a run, from what costs least to what costs most, and lets it in.
async fn accept(
    service: &Arc<Service>,
    caller: &Arc<Caller>,
    name: &str,
    head: &Parts,
    body: Body,
) -> Result<(Job, oneshot::Sender<()>, Encoding), Refusal> {
    let skill = SkillName::parse(name).map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    guard::check_json(&head.method, &head.headers)?;
    let (program, manifest) = service.find(&skill, caller)?;
    if *service.phase.borrow() != Phase::Serving {
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping"));
    }
    // Only a request that has a place may make the server hold its body.
    let place = service.gate.enter().ok_or_else(|| Refusal::busy("too many runs go on or wait", RETRY))?;
    let body = read(service, head, body).await?;
    let request = RunRequest::parse(&body).map_err(|error| {
        let status = match error {
            RequestError::Shape(_) => StatusCode::UNPROCESSABLE_ENTITY,
            RequestError::Bytes | RequestError::Syntax(_) | RequestError::Value(_) => StatusCode::BAD_REQUEST,
        };
        Refusal::new(status, error.to_string())
    })?;
    drop(body);
    check(&skill, manifest, &request)?;
    let time = Duration::from_secs(request.timeout).min(service.limits.run_time);
    let time = manifest.most_time.map_or(time, |most| time.min(most));
    let (cancel, cancelled) = oneshot::channel();
    let encoding = request.encoding;
    let (service, caller) = (service.clone(), caller.clone());
    Ok((Job { service, caller, skill, program, request, time, place, cancelled }, cancel, encoding))
}

/// Checks a request against the skill's manifest.
fn check(skill: &SkillName, manifest: &Manifest, request: &RunRequest) -> Result<(), Refusal> {
    if let Some(forms) = &manifest.forms
        && !forms.iter().any(|form| form.allows(&request.args))
    {
        return Err(Refusal::new(StatusCode::FORBIDDEN, format!("`{skill}` is not allowed these arguments")));
    }
    match request.env.keys().find(|variable| manifest.fixes(variable)) {
        None => Ok(()),
        Some(variable) => {
            let error = format!("the variable `{variable}` is set by the manifest of `{skill}`");
            Err(Refusal::new(StatusCode::BAD_REQUEST, error))
        }
    }
}

/// Reads a body, as far and as long as the limits allow.
async fn read(service: &Service, head: &Parts, body: Body) -> Result<Bytes, Refusal> {
    let too_large = || {
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {} bytes", service.limits.body))
    };
    let declared =
        head.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|length| length > service.limits.body) {
        return Err(too_large());
    }
    let reading = tokio::time::timeout(service.limits.patience, axum::body::to_bytes(body, service.limits.body));
    match reading.await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_limit(&error) => Err(too_large()),
        Ok(Err(_)) => Err(Refusal::new(StatusCode::BAD_REQUEST, "the body ends early")),
        Err(_) => Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time")),
    }
}

fn is_limit(error: &axum::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// `GET /task/<id>`: whether a task still runs, or its answer.
async fn poll(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Arc<Caller>>,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let id = parse_id(&id)?;
    tell(service.tasks.look_up(id, &caller.name))
}

/// `DELETE /task/<id>`: ends a task and forgets it; the answer is what there was.
async fn end(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Arc<Caller>>,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let id = parse_id(&id)?;
    tell(service.tasks.end(id, &caller.name).await)
}

fn tell(known: Known) -> Result<Response, Refusal> {
    match known {
        Known::Pending => Ok(axum::Json(json!({ "status": "pending" })).into_response()),
        Known::Ended(answer) => Ok(json_response(StatusCode::OK, answer.to_vec())),
        Known::Nothing => Err(no_task()),
    }
}

/// Parses a task's id in the form it was given out; other forms of a UUID name no task.
fn parse_id(text: &str) -> Result<Uuid, Refusal> {
    let id = Uuid::try_parse(text).map_err(|_| no_task())?;
    if id.hyphenated().encode_lower(&mut Uuid::encode_buffer()) == text { Ok(id) } else { Err(no_task()) }
}

fn no_task() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "task not found")
}

fn json_response(status: StatusCode, body: Vec<u8>) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
