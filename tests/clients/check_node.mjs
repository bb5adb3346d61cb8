// The official SDKs for Node against every vendor; a line per failure, and the count at the end.
import { createRequire } from "node:module";
import assert from "node:assert/strict";

const require = createRequire(process.env.CLIENTS_NPM + "/");
const { default: OpenAI } = await import(require.resolve("openai"));
const { default: Anthropic } = await import(require.resolve("@anthropic-ai/sdk"));
const { GoogleGenAI } = await import(require.resolve("@google/genai"));
const url = process.argv[2];
const TEXT = "Hello, wörld 😀! Fine.";
const parameters = { type: "object", properties: { city: { type: "string" }, days: { type: "integer" } }, required: ["city"] };
const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: "dummy", maxRetries: 0 });
const anthropic = new Anthropic({ baseURL: url, apiKey: "dummy", maxRetries: 0 });
const google = new GoogleGenAI({ apiKey: "dummy", httpOptions: { baseUrl: url } });
const vendors = { openai: "gpt", anthropic: "claude", gemini: "gemini-3" };
const ask = [{ role: "user", content: "Weather?" }];

const checks = {
  async "openai streams"(model) {
    const stream = openai.chat.completions.stream({ model: model("text"), messages: ask, stream_options: { include_usage: true } });
    assert.equal(await stream.finalContent(), TEXT);
    assert.equal((await stream.totalUsage()).total_tokens, 120);
  },
  async "openai runs tools"(model) {
    const called = [];
    const runner = openai.chat.completions.runTools({
      model: model("thinkparallel"), messages: ask, stream: true, reasoning_effort: "low",
      tools: [{ type: "function", function: { name: "get_weather", parameters, parse: JSON.parse, function: ({ city }) => (called.push(city), "21 degrees") } }],
    });
    assert.equal(await runner.finalContent(), "It is 21 degrees.");
    assert.deepEqual(called.sort(), ["Paris", "Rome"]);
  },
  async "openai embeds and refuses"(model, vendor) {
    if (vendor !== "anthropic") {
      const answer = await openai.embeddings.create({ model: model("embed"), input: ["one", "two"] });
      assert.deepEqual([...answer.data[0].embedding], [0.25, -0.5, 1]);
    }
    await assert.rejects(openai.chat.completions.create({ model: model("error-429"), messages: ask }), OpenAI.RateLimitError);
    await assert.rejects(async () => {
      for await (const _ of await openai.chat.completions.create({ model: model("mid-error"), messages: ask, stream: true }));
    }, OpenAI.APIError);
  },
  async "anthropic streams thinking and tools"(model, vendor) {
    const messages = [...ask];
    const options = { model: model("thinkparallel"), max_tokens: 4000, thinking: { type: "enabled", budget_tokens: 2000 }, tools: [{ name: "get_weather", input_schema: parameters }] };
    const first = await anthropic.messages.stream({ ...options, messages }).finalMessage();
    const calls = first.content.filter((block) => block.type === "tool_use");
    assert.deepEqual(calls.map((call) => call.input.city), ["Paris", "Rome"]);
    if (vendor !== "openai") assert.equal(first.content[0].thinking, "I think, therefore.");
    messages.push({ role: "assistant", content: first.content });
    messages.push({ role: "user", content: calls.map((call) => ({ type: "tool_result", tool_use_id: call.id, content: "21" })) });
    const second = await anthropic.messages.create({ ...options, messages });
    assert.equal(second.content.at(-1).text, "It is 21 degrees.");
  },
  async "anthropic refuses"(model) {
    await assert.rejects(anthropic.messages.create({ model: model("error-503"), max_tokens: 9, messages: ask }), Anthropic.InternalServerError);
    await assert.rejects(anthropic.messages.stream({ model: model("mid-error"), max_tokens: 9, messages: ask }).finalMessage(), Anthropic.APIError);
  },
  async "genai chats with tools"(model) {
    const tools = [{ functionDeclarations: [{ name: "get_weather", parametersJsonSchema: parameters }] }];
    const chat = google.chats.create({ model: model("thinktool"), config: { tools, thinkingConfig: { includeThoughts: true } } });
    const calls = [];
    for await (const chunk of await chat.sendMessageStream({ message: "Weather?" })) calls.push(...(chunk.functionCalls ?? []));
    assert.equal(calls[0].args.city, "Paris");
    const message = calls.map(({ id, name }) => ({ functionResponse: { id, name, response: { output: "21" } } }));
    assert.equal((await chat.sendMessage({ message })).text, "It is 21 degrees.");
  },
  async "genai streams, counts and refuses"(model, vendor) {
    let said = "";
    for await (const chunk of await google.models.generateContentStream({ model: model("text"), contents: "Hi" })) said += chunk.text ?? "";
    assert.equal(said, TEXT);
    assert.ok((await google.models.countTokens({ model: model("text"), contents: "Hi" })).totalTokens > 0);
    await assert.rejects(google.models.generateContent({ model: model("error-429"), contents: "Hi" }), { status: 429 });
    if (vendor === "gemini") for await (const listed of await google.models.list()) assert.match(listed.name, /^models\//);
  },
};

let passed = 0, failed = 0;
for (const [vendor, prefix] of Object.entries(vendors)) {
  for (const [name, check] of Object.entries(checks)) {
    try {
      await check((kind) => `${vendor}/${prefix}-${kind}`, vendor);
      passed += 1;
    } catch (error) {
      failed += 1;
      console.log(`FAILED  node ${name} to ${vendor}: ${error.stack ?? error}`.slice(0, 900));
    }
  }
}
console.log(`node: ${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
