'use strict';
// Text from the server and from file names reaches the page by textContent alone: no label can become markup.
const part = name => document.getElementById(name);
const picture = part('picture'), camera = part('camera'), button = part('webcam');
const SECONDS_BETWEEN_FRAMES = 0.2;
const LARGEST_SIDE = 1280; // of a webcam's frame: more only costs its JPEG

function show(answer, took, timing) {
  const [first] = answer.predictions;
  part('label').textContent = first.rejected ? 'too unsure to say' : first.label;
  part('top').replaceChildren(...first.top.map(guess => {
    const row = document.createElement('li'), meter = document.createElement('meter');
    const percent = `${(100 * guess.probability).toFixed(1)} %`;
    for (const text of [guess.label, percent]) row.append(Object.assign(document.createElement('span'), { textContent: text }));
    meter.value = guess.probability;
    meter.setAttribute('aria-label', `${guess.label}: ${percent}`);
    row.append(meter);
    return row;
  }));
  const stages = [...timing.matchAll(/(\w+);dur=([\d.]+)/g)].map(([, name, ms]) => `${name} ${Number(ms).toFixed(1)} ms`);
  part('times').textContent = [...stages, `with the way there and back ${took.toFixed(1)} ms`].join(' · ');
}

async function ask(image) {
  const token = part('token').value, started = performance.now();
  try {
    const response = await fetch('predict', {
      method: 'POST', body: image, headers: token ? { Authorization: `Bearer ${token}` } : {},
    });
    const answer = await response.json();
    if (response.status === 401) part('secret').hidden = false;
    if (!response.ok) throw new Error([answer.error.message, answer.error.hint].filter(Boolean).join('. '));
    part('error').textContent = '';
    show(answer, performance.now() - started, response.headers.get('Server-Timing') ?? '');
  } catch (error) {
    part('error').textContent = error.message;
  }
}

function take(file) {
  if (!file) return;
  stop();
  URL.revokeObjectURL(picture.src);
  picture.src = URL.createObjectURL(file);
  picture.alt = file.name ?? 'the image asked about';
  picture.hidden = false;
  part('invitation').hidden = true;
  ask(file);
}

function stop() {
  camera.srcObject?.getTracks().forEach(track => track.stop());
  camera.srcObject = null;
  camera.hidden = true;
  button.textContent = 'Use the webcam';
}

async function watch() {
  const canvas = document.createElement('canvas');
  while (camera.srcObject) {
    const scale = Math.min(1, LARGEST_SIDE / Math.max(camera.videoWidth, camera.videoHeight, 1));
    canvas.width = Math.round(camera.videoWidth * scale);
    canvas.height = Math.round(camera.videoHeight * scale);
    if (canvas.width && canvas.height) {
      canvas.getContext('2d').drawImage(camera, 0, 0, canvas.width, canvas.height);
      await ask(await new Promise(resolve => canvas.toBlob(resolve, 'image/jpeg', 0.92)));
    }
    await new Promise(resolve => setTimeout(resolve, 1000 * SECONDS_BETWEEN_FRAMES));
  }
}

button.addEventListener('click', async () => {
  if (camera.srcObject) return stop();
  try {
    camera.srcObject = await navigator.mediaDevices.getUserMedia({ video: true });
    await camera.play();
  } catch (error) {
    part('error').textContent = `no webcam: ${error.message}`;
    return stop();
  }
  picture.hidden = part('invitation').hidden = true;
  camera.hidden = false;
  button.textContent = 'Stop the webcam';
  watch();
});
part('secret').addEventListener('submit', event => event.preventDefault());
part('file').addEventListener('change', event => take(event.target.files[0]));
for (const kind of ['dragover', 'dragleave', 'drop']) {
  document.addEventListener(kind, event => {
    event.preventDefault();
    part('drop').classList.toggle('over', kind === 'dragover');
    if (kind === 'drop') take(event.dataTransfer.files[0]);
  });
}
document.addEventListener('paste', event => take(event.clipboardData.files[0]));
fetch('health').then(response => response.json()).then(said => {
  part('model').textContent = `${said.variant} on ${said.backend}`;
});
