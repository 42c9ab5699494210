// The task `same` as a pool's child.
import {task, serve} from '../../../workers/sdk/errand.mjs';

task('same', (number) => number);
serve();
