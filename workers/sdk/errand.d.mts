// The types of errand.mjs. What each does is said there.

export const version: string;

/** "1h30m", or milliseconds. */
export type Duration = string | number;
/** From now, or a time. */
export type When = Duration | Date;
/** What JSON can say is a matter of what JSON.stringify() takes: interfaces have no index signature to be checked. */
export type Json = unknown;

// --- what can be wrong -----------------------------------------------------------------------------------------------

export interface TaskError {
  type: string;
  message?: string;
  types?: string[];
  traceback?: string;
  stderr?: string;
  exit_code?: number;
  [detail: string]: unknown;
}

export class ErrandError extends Error {}

export class Problem extends ErrandError {
  constructor(status: number, body?: unknown);
  readonly status: number;
  readonly type: string;
  readonly title: string;
  readonly detail: string;
  readonly errors: { pointer: string; detail: string }[];
}

export class Unreachable extends ErrandError {}
export class TimeoutError extends ErrandError {}

export class TaskFailed extends ErrandError {
  constructor(id: string, task: string, status: string, error?: TaskError | null);
  readonly id: string;
  readonly task: string;
  readonly status: string;
  readonly error: TaskError | null;
  readonly type: string;
}

export interface FailOptions {
  retry?: boolean;
  after?: Duration;
  cause?: unknown;
}

export class Fail extends Error {
  constructor(type: string, message?: string, options?: FailOptions);
  readonly type: string;
  readonly retry?: boolean;
  readonly after?: Duration;
}

export interface RetryOptions {
  after?: Duration;
  cause?: unknown;
  type?: string;
}

export class Retry extends Fail {
  constructor(message?: string, options?: RetryOptions);
  constructor(options: RetryOptions);
}

export class BadResult extends ErrandError {}
export class Cancelled extends ErrandError {}
export class LeaseLost extends Cancelled {}

// --- tasks -----------------------------------------------------------------------------------------------------------

/** A function that was given to task(). */
export type Body<Args extends any[] = any[], Result = unknown> = (...args: Args) => Result;
export type TaskName = string | Body;
/** What an invocation of it gives; of a name, whatever it is. */
export type ResultOf<Task> = Task extends (...args: any[]) => infer Result ? Awaited<Result> : any;
/** Several positional ones, an object, or one. */
export type Args = Json;

export function task<B extends Body>(name: string, body: B): B;
export function task<B extends Body>(body: B): B;

/** What the hooks of a worker put into it: declare module './errand.mjs' { interface Context { db: Database } } */
export interface Context {
  [name: string]: any;
}

export function onStart<Hook extends (context: Context) => unknown>(hook: Hook): Hook;
export function onStop<Hook extends (context: Context) => unknown>(hook: Hook): Hook;

/** Of a submission. What a newer server knows beyond these may be given, too; each in the server's own spelling as well. */
export interface Options {
  /** The arguments as they are, in place of the second parameter. */
  args?: Json;
  priority?: number;
  runAt?: Date | string;
  delay?: Duration;
  expiresIn?: Duration;
  deadline?: When;
  timeout?: Duration;
  maxRetries?: number;
  retention?: Duration;
  labels?: Record<string, string>;
  key?: string;
  callback?: string;
  /** A promise: it runs when it is released, and is cancelled if that has not been done by `releaseBy`. */
  hold?: boolean;
  releaseBy?: Duration;
  /** Those that it comes after; it runs when all have succeeded, or as `afterPolicy` says. */
  after?: Waited<any> | Iterable<Waited<any>>;
  afterPolicy?: 'success' | 'any' | 'failure';
  /** An open group, of which it is one more member. */
  group?: string | Group;
  [newer: string]: unknown;
}

export interface GroupOptions extends Options {
  mode?: 'parallel' | 'chain' | 'graph';
  commonArgs?: Record<string, Json>;
  open?: boolean;
  failFast?: boolean;
}

/** A member of a group, with options of its own; `after` has names of other members, too. */
export interface Member extends Omit<Options, 'after'> {
  task: TaskName;
  name?: string;
  after?: Waited<any> | Iterable<Waited<any>>;
}

export interface ChildOptions extends Options {
  step?: string;
  detached?: boolean;
}

export interface MapOptions {
  /** A failure is in its place among the results, as TaskFailed. */
  returnErrors?: boolean;
  timeoutOfAll?: Duration;
}

export interface WaitOptions {
  timeout?: Duration;
  returnErrors?: boolean;
}

// --- what is told ----------------------------------------------------------------------------------------------------

export interface Message<Content = any> {
  seq: number;
  body: Content;
  invocation?: string;
  at?: string;
  kind?: 'in' | 'out';
}

export type Status =
  'held' | 'scheduled' | 'queued' | 'running' | 'waiting' | 'succeeded' | 'failed' | 'cancelled';

export interface Outcome {
  id: string;
  step: string | null;
  /** null: it is gone */
  status: Status | null;
  result: any;
  error: TaskError | null;
}

export interface Woken {
  by: 'ids' | 'inbox' | 'until';
  results: Outcome[];
  /** All that are unread, whatever woke it. */
  messages: Message[];
}

/** An invocation, as the server shows it. */
export interface Invocation {
  id: string;
  task: string;
  status: Status;
  args?: any;
  result?: any;
  error: TaskError | null;
  attempt: number;
  turns: number;
  labels: Record<string, string> | null;
  progress: { value: number; note: string | null } | null;
  [more: string]: any;
}

declare abstract class Waitable<Result> {
  readonly id: string;
  readonly task: string;
  readonly step: string | null;
  /** Its result; TaskFailed, or TimeoutError. */
  wait(options?: { timeout?: Duration }): Promise<Result>;
}

export class Child<Result = any> extends Waitable<Result> {
  private constructor();
}

// --- a turn ----------------------------------------------------------------------------------------------------------

export type Waited<Result = any> = Waitable<Result> | string;

export interface SuspendOptions {
  ids?: Waited | Iterable<Waited>;
  mode?: 'all' | 'any';
  inbox?: boolean;
  until?: When;
  state?: Json;
}

/** What suspend() gives, for the body to return. */
export type Suspended = symbol & { readonly suspended?: never };

export class Turn {
  private constructor();
  readonly id: string;
  readonly task: string;
  readonly args: any;
  readonly attempt: number;
  readonly invocation: Invocation;
  /** What the last turn left when it suspended; null: nothing. */
  readonly state: any;
  readonly woken: Woken | null;
  readonly steps: Readonly<Record<string, any>>;
  readonly context: Context;
  readonly signal: AbortSignal;

  cancelled(): boolean;
  /** Milliseconds; null: as long as it takes. */
  timeLeft(): number | null;
  log(text: unknown): void;
  progress(value: number, note?: string | null): void;

  group(task: TaskName, items: Iterable<Args>, options?: GroupOptions & ChildOptions): Promise<Child<null>>;
  group(invocations: Iterable<Member>, options?: GroupOptions & ChildOptions): Promise<Child<null>>;
  submit<Task extends TaskName>(task: Task, args?: Args, options?: ChildOptions): Promise<Child<ResultOf<Task>>>;
  map<Task extends TaskName>(task: Task, items: Iterable<Args>, options?: ChildOptions & MapOptions & { returnErrors?: false }):
    Promise<ResultOf<Task>[]>;
  map<Task extends TaskName>(task: Task, items: Iterable<Args>, options: ChildOptions & MapOptions):
    Promise<(ResultOf<Task> | TaskFailed)[]>;

  wait<Result>(given: Waitable<Result>, options?: WaitOptions & { mode?: 'all'; returnErrors?: false }): Promise<Result>;
  wait(given: string, options?: WaitOptions & { mode?: 'all' }): Promise<any>;
  wait<Handle extends Waited>(given: Handle | Iterable<Handle>, options: WaitOptions & { mode: 'any' }):
    Promise<(Handle extends string ? Child : Handle)[]>;
  wait<Result>(given: Iterable<Waited<Result>>, options?: WaitOptions & { mode?: 'all'; returnErrors?: false }):
    Promise<Result[]>;
  wait<Result>(given: Iterable<Waited<Result>>, options: WaitOptions & { mode?: 'all' }): Promise<(Result | TaskFailed)[]>;

  asCompleted<Handle extends Waited>(given: Iterable<Handle>, options?: { timeout?: Duration }):
    AsyncGenerator<Handle extends string ? Child : Handle, void, undefined>;

  step<Args extends any[], Result>(name: string, body: (...args: Args) => Result, ...args: Args): Promise<Awaited<Result>>;
  sleep(duration: Duration): Promise<void>;
  suspend(options: SuspendOptions): Promise<Suspended>;
  message(body: Json): Promise<number>;
  inbox(options?: { wait?: Duration }): Promise<Message[]>;
}

export function current(): Turn;
export function commandTurn(): Promise<Turn>;

// --- workers ---------------------------------------------------------------------------------------------------------

export interface WorkerOptions {
  url?: string;
  token?: string;
  name?: string;
  tasks?: Iterable<string>;
  concurrency?: number;
  lease?: Duration;
  grace?: Duration;
}

export class Worker {
  constructor(options?: WorkerOptions);
  readonly url: string;
  readonly name: string;
  readonly tasks: string[];
  readonly concurrency: number;
  readonly held: number;
  /** 0, or 1 if the server does not want it. */
  run(): Promise<number>;
  stop(): void;
}

export function serve(meta?: ImportMeta): Promise<void>;

// --- a client --------------------------------------------------------------------------------------------------------

export class Handle<Result = any> extends Waitable<Result> {
  private constructor();
  get(): Promise<Invocation>;
  status(): Promise<Status>;
  cancel(): Promise<Invocation>;
  retry(options?: { fresh?: boolean }): Promise<Invocation>;
  /** A promise (hold: true): from now on it may run. */
  release(): Promise<Invocation>;
  /** Of one that a group's results() gave. */
  index?: number;
  name?: string;
  /** Inline: as if the time had come until which it sleeps. */
  wake(): Promise<Invocation>;
  send(body: Json, options?: { key?: string }): Promise<number>;
  messages(options?: { after?: number; kind?: 'in' | 'out' | 'all' }): Promise<Message[]>;
  follow(options?: { after?: number; kind?: 'in' | 'out' | 'all'; descendants?: boolean }):
    AsyncGenerator<Message, void, undefined>;
  log(): Promise<string>;
}

/** A group as the server shows it. */
export interface GroupRow {
  id: string;
  mode: 'parallel' | 'chain' | 'graph';
  status: 'held' | 'running' | 'succeeded' | 'failed' | 'cancelled';
  total: number;
  counts: Record<string, number>;
  [more: string]: any;
}

export class Group<Result = any> {
  private constructor();
  readonly id: string;
  readonly mode: GroupRow['mode'];
  readonly ids: string[];
  readonly handles: Handle<Result>[];
  get(): Promise<GroupRow>;
  status(): Promise<GroupRow['status']>;
  wait(options?: WaitOptions & { returnErrors?: false }): Promise<Result[]>;
  wait(options: WaitOptions): Promise<(Result | TaskFailed)[]>;
  results(): AsyncGenerator<Handle<Result>, void, undefined>;
  asCompleted(): AsyncGenerator<Handle<Result>, void, undefined>;
  release(): Promise<GroupRow>;
  close(): Promise<GroupRow>;
  cancel(): Promise<GroupRow>;
}

export class Client {
  constructor(url?: string, options?: { token?: string; patience?: Duration });
  submit<Task extends TaskName>(task: Task, args?: Args, options?: Options): Promise<Handle<ResultOf<Task>>>;
  submitAll<Task extends TaskName>(task: Task, items: Iterable<Args>, options?: Options): Promise<Handle<ResultOf<Task>>[]>;
  map<Task extends TaskName>(task: Task, items: Iterable<Args>, options?: Options & MapOptions & { returnErrors?: false }):
    Promise<ResultOf<Task>[]>;
  map<Task extends TaskName>(task: Task, items: Iterable<Args>, options: Options & MapOptions):
    Promise<(ResultOf<Task> | TaskFailed)[]>;
  group<Task extends TaskName>(task: Task, items: Iterable<Args>, options?: GroupOptions): Promise<Group<ResultOf<Task>>>;
  group(invocations: Iterable<Member>, options?: GroupOptions): Promise<Group>;
  wait<Result>(given: Waitable<Result>, options?: WaitOptions & { returnErrors?: false }): Promise<Result>;
  wait(given: string, options?: WaitOptions): Promise<any>;
  wait<Result>(given: Iterable<Waited<Result>>, options?: WaitOptions & { returnErrors?: false }): Promise<Result[]>;
  wait<Result>(given: Iterable<Waited<Result>>, options: WaitOptions): Promise<(Result | TaskFailed)[]>;
  handle<Result = any>(id: string): Handle<Result>;
  list(filters?: Record<string, string | number | boolean | (string | number)[]>): AsyncGenerator<Invocation, void, undefined>;
  close(): void;
}
